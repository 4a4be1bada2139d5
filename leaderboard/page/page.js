"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const names = new Intl.Collator("en", { numeric: true });

  // Blank cells stay last in both directions; equal ones keep the order that the page came with.
  const sort = (table, index, direction) => {
    const body = table.tBodies[0];
    const sign = direction === "descending" ? -1 : 1;
    const key = (row) => row.cells[index].dataset.sort;
    const order = index === 0 ? names.compare : (a, b) => Number(a) - Number(b);
    const rows = [...body.rows].sort((a, b) => a.dataset.place - b.dataset.place);
    if (direction !== "none") {
      rows.sort((a, b) => {
        const [left, right] = [key(a), key(b)];
        return left === "" || right === "" ? (left === "") - (right === "") : sign * order(left, right);
      });
    }
    body.append(...rows);
  };

  const sortable = (table) => {
    [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.place = place; });
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, index) => {
      const button = head.querySelector("button");
      const first = button.dataset.first;
      const turns = { none: first, [first]: first === "ascending" ? "descending" : "ascending" };
      button.disabled = false;
      button.addEventListener("click", () => {
        const next = turns[head.getAttribute("aria-sort") ?? "none"] ?? "none";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (next !== "none") head.setAttribute("aria-sort", next);
        sort(table, index, next);
      });
    });
  };

  const filter = () => {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const hidden = new Set(all("input[name=kind]:not(:checked)").map((box) => box.value));
    let shown = 0, count = 0;
    all("table").forEach((table) => {
      let left = 0;
      [...table.tBodies[0].rows].forEach((row) => {
        const name = row.dataset.name.toLowerCase();
        row.hidden = hidden.has(row.dataset.kind) || !words.every((word) => name.includes(word));
        left += !row.hidden;
      });
      table.tBodies[1].hidden = left > 0;
      if (table.dataset.sheet) {
        shown += left;
        count += table.tBodies[0].rows.length;
      }
    });
    byId("count").textContent = shown === count ? `${count} rows` : `${shown} of ${count} rows`;
  };

  const cards = () => {
    const dialog = byId("card");
    const open = (facts) => {
      const copy = facts.cloneNode(true);
      copy.removeAttribute("id");
      byId("card-title").textContent = facts.dataset.title;
      byId("card-body").replaceChildren(copy);
      dialog.showModal();
    };
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-card]");
      if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
        event.preventDefault();
        open(byId(link.dataset.card));
      } else if (event.target === dialog) {
        dialog.close();
      }
    });
    byId("card-close").addEventListener("click", () => dialog.close());
  };

  const theme = () => {
    const system = matchMedia("(prefers-color-scheme: dark)");
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const say = () => {
      const other = dark() ? "Light" : "Dark";
      byId("theme-name").textContent = other;
      byId("theme").setAttribute("aria-label", `Switch to ${other.toLowerCase()}`);
    };
    byId("theme").addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      say();
    });
    system.addEventListener("change", say);
    say();
  };

  const contents = () => {
    const narrow = matchMedia("(max-width: 68rem)");
    const fit = () => { byId("contents").open = !narrow.matches; };
    narrow.addEventListener("change", fit);
    fit();
    byId("contents").addEventListener("click", (event) => {
      if (narrow.matches && event.target.closest("a")) byId("contents").open = false;
    });
    const links = new Map(all("#contents a").map((link) => [link.hash.slice(1), link]));
    const seen = new IntersectionObserver((entries) => {
      entries.forEach((entry) => { entry.target.dataset.seen = entry.isIntersecting; });
      const first = all("main > section").find((section) => section.dataset.seen === "true");
      links.forEach((link) => link.removeAttribute("aria-current"));
      if (first) links.get(first.id)?.setAttribute("aria-current", "true");
    }, { rootMargin: "-20% 0px -60% 0px" });
    all("main > section").forEach((section) => seen.observe(section));
  };

  all("table").forEach(sortable);
  byId("filter").addEventListener("input", filter);
  all("input[name=kind]").forEach((box) => box.addEventListener("change", filter));
  byId("tools").hidden = false;
  filter();
  cards();
  theme();
  contents();
})();
