// Tables sort by the column whose heading is pressed; a second press turns the order round. Without this they read as they are.
(function () {
  "use strict";
  document.querySelectorAll("table.sortable").forEach(function (table) {
    var heads = Array.prototype.slice.call(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", function () { sort(table, heads, column); });
    });
  });
  function sort(table, heads, column) {
    var rising = heads[column].getAttribute("aria-sort") !== "ascending";
    heads.forEach(function (head, index) {
      head.setAttribute("aria-sort", index !== column ? "none" : rising ? "ascending" : "descending");
    });
    var isNumber = heads[column].classList.contains("number");
    var body = table.tBodies[0];
    var rows = Array.prototype.map.call(body.rows, function (row, place) {
      var cell = row.cells[column];
      var value = cell && cell.dataset.value !== undefined ? cell.dataset.value : null;
      return { row: row, place: place, value: value !== null && isNumber ? Number(value) : value };
    });
    rows.sort(function (a, b) {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.place - b.place;
      var order = isNumber ? a.value - b.value : a.value.localeCompare(b.value, "en", { numeric: true });
      return (rising ? order : -order) || a.place - b.place;
    });
    rows.forEach(function (entry) { body.appendChild(entry.row); });
  }
}());
