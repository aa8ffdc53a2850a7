"""A script's statements in the order in which bash would run them, without running any."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.preflight.command import branches
from harness.preflight.command.expansion import line_of, source_of, text_of_tree, value, words
from harness.preflight.command.scripts import ReadingLimit, Script, read_text, tree_of
from harness.preflight.command.shell import Command, Shell, unknown
from harness.preflight.command.words import Kind, Piece, Value, Word, together
from harness.preflight.command.wrappers import unwrapped

if TYPE_CHECKING:
    from tree_sitter import Node

DEEPEST = 12
"""Of functions that call functions, and scripts that read scripts."""
MOST_COMMANDS = 20_000
MOST_CALLS = 500
_ESCAPED_BLANK = re.compile(rb"[ \t]*\\[ \t]+(\n|$|#)")
"""A blank behind the backslash at a line's end: it is a word of its own."""
_SHELLS = ("bash", "sh", "zsh")
_OPENS = frozenset({">", ">>", "&>", "&>>", ">|"})


@dataclass(kw_only=True)
class ShellInterpreter:
    """Walks the statements; `commands` are all simple commands that may run."""

    commands: list[Command] = field(default_factory=list)
    followed: dict[Path, bytes] = field(default_factory=dict)
    """Scripts that were read, the first one included."""
    not_followed: list[str] = field(default_factory=list)
    """Scripts that are called and cannot be read here."""
    opened: tuple[Word, ...] = ()
    """Files for the output of the statement that is walked."""
    depth: int = 0
    calls: int = 0
    limit: ReadingLimit = field(default_factory=ReadingLimit)

    def run(self, script: Script, shell: Shell) -> None:
        """All statements of a script."""
        self.followed[script.path] = script.text
        self.walk(tree_of(script.text), shell)

    def walk(self, node: Node, shell: Shell) -> None:
        """One statement, or several."""
        if shell.ended or len(self.commands) > MOST_COMMANDS:
            return
        self.limit.check(shell.script)
        handler = _HANDLERS.get(node.type)
        if handler is not None:
            handler(self, node, shell)

    def walk_children(self, node: Node, shell: Shell) -> None:
        for child in node.named_children:
            self.walk(child, shell)

    def assignment(self, node: Node, shell: Shell, *, exported: bool = False) -> None:
        """`NAME=value`, `NAME+=value`, `NAME=(…)`."""
        name_node = node.child_by_field_name("name")
        if name_node is None or name_node.type != "variable_name":
            return
        name, written = source_of(name_node), node.child_by_field_name("value")
        is_array = written is not None and written.type == "array"
        new = self.array(written, shell) if written is not None and is_array else value(written, shell)
        if any(source_of(child) == "+=" for child in node.children):
            before = shell.get(name, line_of(node)) if shell.is_set(name) is not False else ()
            between = (Piece(text="", line=line_of(node), ends_word=True),) if is_array and before else ()
            new = (*before, *between, *new)
        shell.assign(name, new, line=line_of(node), exported=exported, array=is_array)

    def array(self, node: Node, shell: Shell) -> Value:
        pieces: list[Piece] = []
        for child in node.named_children:
            for word in words(child, shell) if child.type != "comment" else ():
                pieces += [Piece(text="", line=word.line, ends_word=True)] if pieces else []
                unset = word.unset[0] if word.unset else ""
                why = "; ".join(word.unknown)
                pieces.append(Piece(text=word.text, line=word.line, kind=Kind.QUOTED, unknown=why, unset=unset))
        return tuple(pieces)

    def declaration(self, node: Node, shell: Shell) -> None:
        """`export NAME=value`, `declare -x`, `local`."""
        exported = source_of(node.children[0]) == "export" or any(source_of(child) == "-x" for child in node.children)
        for child in node.named_children:
            if child.type == "variable_assignment":
                self.assignment(child, shell, exported=exported)
            elif child.type in ("variable_name", "word") and exported:
                shell.export(source_of(child))

    def command(self, node: Node, shell: Shell) -> None:
        """A simple command: recorded, and where it changes the shell, done."""
        before = [child for child in node.children if child.type == "variable_assignment"]
        name = node.child_by_field_name("name")
        lines = _of_other_lines(node, before, name) if name is not None else before
        for child in lines:
            self.assignment(child, shell)
        if name is None:
            return
        inner = shell.copy()
        for child in before[len(lines) :]:
            self.assignment(child, inner, exported=True)
        command_words = self.words_of(node, name, shell)
        vanished = tuple(
            name_of_variable for word in command_words if not _is_present(word) for name_of_variable in word.unset
        )
        remaining = tuple(word for word in command_words if _is_present(word))
        variables = inner.variables.items()
        self.commands.append(
            Command(
                words=remaining,
                line=line_of(name),
                end_line=int(node.end_point[0]) + 1,
                start_byte=node.start_byte,
                end_byte=node.end_byte,
                source=shell.script,
                directory=shell.directory,
                exported={key: variable.value for key, variable in variables if variable.exported},
                unexported=frozenset(key for key, variable in variables if not variable.exported),
                unset=vanished,
                certain=shell.certain,
                writes=self.opened,
            )
        )
        if remaining:
            self.effect(unwrapped(remaining), shell)

    def words_of(self, node: Node, name: Node, shell: Shell) -> list[Word]:
        """Bash joins words where a backslash at a line's end has no blank before it and none behind."""
        joined_words: list[Word] = []
        text, end = text_of_tree(node), -1
        for child in node.children:
            if child.start_byte < name.start_byte or "redirect" in child.type:
                continue
            new = words(child.named_children[0] if child.type == "command_name" else child, shell)
            if new and joined_words and text[end : child.start_byte] == b"\\\n":
                new = [together(joined_words.pop(), new[0]), *new[1:]]
            joined_words += new
            end = child.end_byte
        if _ESCAPED_BLANK.match(text, end):
            joined_words.append(Word(text=" ", line=int(node.end_point[0]) + 1, quoted=True))
        return joined_words

    def effect(self, command_words: Sequence[Word], shell: Shell) -> None:
        """What a command does to the shell itself."""
        if not command_words or not command_words[0].known:
            return
        name, arguments = command_words[0].text, command_words[1:]
        if name in shell.functions:
            self.call(shell.functions[name], arguments, shell)
        elif name in (".", "source"):
            self.source(arguments, shell)
        elif posixpath.basename(name) in _SHELLS:
            self.script_of(arguments, shell.copy())
        elif name == "cd":
            shell.change_directory(arguments[0].text if len(arguments) == 1 and arguments[0].known else None)
        elif name in ("exit", "exec"):
            shell.ended = name != "exec" or bool(arguments)
        elif name == "return":
            shell.ended = shell.returns = True
        elif name == "eval":
            shell.open_ended = "eval"
        elif name == "set":
            after = [word.text for word in arguments]
            if "--" in after:
                shell.arguments = tuple(arguments[after.index("--") + 1 :])
        elif name == "shift":
            shell.arguments = None if shell.arguments is None else shell.arguments[1:]
        elif name in ("read", "mapfile", "readarray", "getopts", "printf", "let", "unset"):
            self.other_assignments(name, arguments, shell)

    def other_assignments(self, name: str, arguments: Sequence[Word], shell: Shell) -> None:
        names = [word for word in arguments if not word.text.startswith("-")]
        if name == "printf":
            names = list(arguments[1:2]) if arguments and arguments[0].text == "-v" else []
        if name == "getopts":
            names = [*names[1:2], Word(text="OPTARG", line=0), Word(text="OPTIND", line=0)]
        for word in names:
            key = word.text.partition("=")[0]
            if name == "unset":
                shell.variables.pop(key, None)
            elif key.isidentifier():
                shell.assign(key, unknown(f"${key}", f"{key} is set by {name}", word.line), line=word.line)

    def call(self, body: Node, arguments: Sequence[Word], shell: Shell) -> None:
        """A function: its variables are the script's."""
        self.calls += 1
        if self.depth >= DEEPEST or self.calls > MOST_CALLS:
            return
        self.depth += 1
        outer, shell.arguments = shell.arguments, tuple(arguments)
        self.walk(body, shell)
        shell.come_back()
        shell.arguments = outer
        self.depth -= 1

    def source(self, arguments: Sequence[Word], shell: Shell) -> None:
        """`. FILE`: read in this shell; one that is not here may set anything."""
        script = self.readable(arguments, shell)
        if script is None:
            name = arguments[0].text if arguments else "a file"
            shell.open_ended = name
            self.not_followed.append(name)
            return
        outer, shell.script = shell.script, script.path
        self.depth += 1
        self.run(script, shell)
        shell.come_back()
        self.depth -= 1
        shell.script = outer

    def script_of(self, arguments: Sequence[Word], shell: Shell) -> None:
        """`bash FILE`, `bash -c TEXT`."""
        texts = [word.text for word in arguments]
        if "-c" in texts[:-1] and self.depth < DEEPEST and arguments[texts.index("-c") + 1].known:
            self.depth += 1
            self.walk(tree_of(texts[texts.index("-c") + 1].encode()), shell)
            self.depth -= 1
            return
        plain = [word for word in arguments if not word.text.startswith("-")]
        script = self.readable(plain, shell)
        if script is None:
            self.not_followed += [word.text for word in plain[:1]]
            return
        shell.variables = {key: variable for key, variable in shell.variables.items() if variable.exported}
        shell.functions, shell.script, shell.arguments = {}, script.path, tuple(plain[1:])
        self.depth += 1
        self.run(script, shell)
        self.depth -= 1

    def readable(self, arguments: Sequence[Word], shell: Shell) -> Script | None:
        """A script of the user's project: below the working directory, or next to the script that names it."""
        if not arguments or not arguments[0].known or self.depth >= DEEPEST or shell.directory is None:
            return None
        for folder in (Path(shell.directory), shell.script.parent):
            path = Path(posixpath.normpath(folder / arguments[0].text))
            in_project = path.is_relative_to(shell.directory) or path.is_relative_to(shell.script.parent)
            text = read_text(path) if in_project else None
            if text is not None:
                return Script(path=path, text=text)
        return None

    def redirected(self, node: Node, shell: Shell) -> None:
        body, outer = node.child_by_field_name("body"), self.opened
        if body is not None:
            self.opened = (*outer, *_opened_for_output(node, shell))
            self.walk(body, shell)
            self.opened = outer

    def function(self, node: Node, shell: Shell) -> None:
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        if name is not None and body is not None:
            shell.functions[source_of(name)] = body


def _opened_for_output(node: Node, shell: Shell) -> list[Word]:
    """The files of `> FILE`, `&>> FILE` and the like, in the order in which bash opens them."""
    return [
        word
        for redirection in node.named_children
        if redirection.type == "file_redirect"
        and _OPENS & {source_of(child) for child in redirection.children}
        and (target := redirection.child_by_field_name("destination")) is not None
        for word in words(target, shell)
    ]


def _of_other_lines(node: Node, assignments: Sequence[Node], name: Node) -> Sequence[Node]:
    """The assignments that end before the command's line: the grammar puts several in one line before the next one."""
    text = text_of_tree(node)
    ends = [*(assignment.start_byte for assignment in assignments[1:]), name.start_byte]
    for number in range(len(assignments), 0, -1):
        between = text[assignments[number - 1].end_byte : ends[number - 1]]
        if re.search(rb"(?<!\\)\n", between):
            return assignments[:number]
    return ()


def _is_present(word: Word) -> bool:
    return bool(word.text or word.quoted or word.unknown)


_HANDLERS: Mapping[str, Callable[[ShellInterpreter, Node, Shell], None]] = {
    **dict.fromkeys(
        ("program", "compound_statement", "do_group", "variable_assignments", "ERROR", "negated_command"),
        ShellInterpreter.walk_children,
    ),
    "variable_assignment": ShellInterpreter.assignment,
    "declaration_command": ShellInterpreter.declaration,
    "command": ShellInterpreter.command,
    "redirected_statement": ShellInterpreter.redirected,
    "pipeline": branches.pipeline,
    "subshell": branches.subshell,
    "list": branches.list_of_two,
    "if_statement": branches.conditional,
    "for_statement": branches.loop,
    "while_statement": branches.repeated,
    "c_style_for_statement": branches.repeated,
    "case_statement": branches.case,
    "function_definition": ShellInterpreter.function,
}
