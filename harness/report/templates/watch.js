"use strict";
// The page of a training that runs: it takes the new figures over every few seconds, and leaves open what is open.
(function () {
  var EVERY = 5000;
  if (document.body.dataset.running !== "yes") { return; }
  if (location.protocol === "file:") {
    setTimeout(function () { location.reload(); }, EVERY);
    return;
  }
  var note = document.getElementById("live");
  function take(text) {
    var fresh = new DOMParser().parseFromString(text, "text/html");
    document.querySelectorAll("details[id][open]").forEach(function (box) {
      var same = fresh.getElementById(box.id);
      if (same) { same.open = true; }
    });
    ["header", "main"].forEach(function (name) {
      var before = document.querySelector(name), after = fresh.querySelector(name);
      if (before && after) { before.replaceWith(document.importNode(after, true)); }
    });
    document.title = fresh.title;
    note = document.getElementById("live");
    if (fresh.body.dataset.running === "yes") { setTimeout(load, EVERY); }
  }
  function load() {
    fetch(location.href, { cache: "no-store" }).then(function (answer) {
      if (!answer.ok) { throw new Error(String(answer.status)); }
      return answer.text();
    }).then(take).catch(function () {
      if (note) { note.textContent = "no longer updated; the report is " + document.body.dataset.report; }
      setTimeout(load, EVERY);
    });
  }
  setTimeout(load, EVERY);
})();
