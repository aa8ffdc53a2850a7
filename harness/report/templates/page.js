"use strict";
// The page is whole without this: it opens what a link leads into, and adds a box to find a release.
(function () {
  function reveal() {
    var name = decodeURIComponent(location.hash.slice(1));
    var target = name && document.getElementById(name);
    if (!target) { return; }
    for (var box = target.parentElement; box; box = box.parentElement) {
      if (box.tagName === "DETAILS") { box.open = true; }
    }
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  var tools = document.querySelector("#grid .tools");
  if (tools) {
    var label = document.createElement("label");
    var input = document.createElement("input");
    input.type = "search";
    input.placeholder = "1.0.";
    label.append("Find a release ", input);
    tools.append(label);
    input.addEventListener("input", function () {
      var wanted = input.value.trim();
      document.querySelectorAll("#grid tbody tr").forEach(function (row) {
        row.hidden = wanted !== "" && !row.cells[0].textContent.includes(wanted);
      });
    });
  }
  reveal();
})();
