// What a page of the book can do by itself: move a slider through figures that were drawn before, filter and sort the
// table of claims, and show where something goes on beyond its right edge.
(() => {
  "use strict";

  function start() {
    const table = document.getElementById("claims-table");
    const form = document.querySelector("form.filter");
    if (table && form) claims(table, form);
    document.querySelectorAll("figure.player").forEach(player);
    document.querySelectorAll(".bd-article :is(.scroll, .pst-scrollable-table-container, pre, div.math)").forEach(edge);
  }

  function edge(box) {
    const look = () => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
    box.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(box); // at first, and when what folds it is opened
  }

  // One control moves at a time: the figures were drawn with the others at their start, where they therefore return.
  function player(figure) {
    const data = JSON.parse(figure.dataset.frames);
    const picture = figure.querySelector("img");
    const inputs = Array.from(figure.querySelectorAll("input[type=range]"));

    function say(input) {
      const text = data[input.name].texts[Number(input.value)];
      input.setAttribute("aria-valuetext", text);
      input.nextElementSibling.value = text;
    }

    for (const input of inputs) {
      input.addEventListener("input", () => {
        for (const other of inputs) {
          if (other !== input && Number(other.value) !== data[other.name].start) {
            other.value = data[other.name].start;
            say(other);
          }
        }
        say(input);
        [picture.src, picture.alt] = data[input.name].frames[Number(input.value)];
      });
      // Fetch the figures of a control when a hand comes near it: then they move without a flicker.
      const fetch = () => data[input.name].frames.forEach(([address]) => { new Image().src = address; });
      for (const event of ["pointerenter", "focus"]) input.addEventListener(event, fetch, { once: true });
    }
  }

  function claims(table, form) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const { lecture, verdict, text, count } = form.elements;
    const asked = new URLSearchParams(location.search);
    for (const name of ["lecture", "verdict", "text"]) {
      if (asked.has(name)) form.elements[name].value = asked.get(name);
    }

    // What is chosen stands in the address, so that a view can be sent to somebody.
    function filter() {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const [topic, mark] = [row.cells[0].textContent.trim(), row.cells[1].textContent.trim()];
        const content = row.textContent.toLowerCase();
        const fits =
          (!lecture.value || topic.startsWith(lecture.value + ".")) &&
          (!verdict.value || mark.endsWith(verdict.value)) &&
          words.every((word) => content.includes(word));
        row.hidden = !fits;
        shown += fits;
      }
      const none = shown ? "" : ". None matches: choose “all”, or search for fewer words.";
      count.value = `${shown} of ${rows.length} claims${none}`;
      const kept = new URLSearchParams();
      for (const field of [lecture, verdict, text]) if (field.value) kept.set(field.name, field.value);
      const address = String(kept) ? "?" + kept : location.pathname;
      try {
        history.replaceState(null, "", address + location.hash);
      } catch { /* a page opened as a file need not allow it */ }
    }

    // Numbers by size (of “measured, bound” the first), everything else by its letters; a second click turns the order.
    // What has no value comes last both ways.
    function sort(column, head) {
      const down = head.getAttribute("aria-sort") === "ascending";
      const key = (row) => row.cells[column].textContent.trim();
      const order = column < 3 ? (a, b) => key(a).localeCompare(key(b), undefined, { numeric: true })
                               : (a, b) => parseFloat(key(a)) - parseFloat(key(b));
      rows.sort((a, b) => !key(a) - !key(b) || (key(a) ? (down ? order(b, a) : order(a, b)) : 0));
      body.append(...rows);
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    }

    Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(column, head));
      head.replaceChildren(button);
    });
    for (const event of ["input", "change"]) form.addEventListener(event, filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    filter();
    // Rows move while the page is filtered: go to the row of the address only now.
    if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
