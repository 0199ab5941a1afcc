// The pages work without this. It keeps them true while they are open, and reads charts out under the pointer.
(() => {
  const main = document.getElementById("main");
  const live = document.getElementById("live");
  const sources = new WeakMap(); // a replaced part's HTML as it was sent: what is open or under the pointer changes the page's

  function busy() {
    const selection = document.getSelection();
    return document.hidden || (selection && !selection.isCollapsed && main.contains(selection.anchorNode));
  }

  function keep(old, fresh) {
    const open = new Map([...old.querySelectorAll("details[id]")].map((d) => [d.id, d.open]));
    fresh.querySelectorAll("details[id]").forEach((d) => { if (open.has(d.id)) d.open = open.get(d.id); });
    const scrolled = [...old.querySelectorAll(".scroll")].map((s) => [s.scrollTop, s.scrollLeft]);
    const focused = old.contains(document.activeElement) ? [...old.querySelectorAll("a,button,summary,[tabindex]")].indexOf(document.activeElement) : -1;
    return () => {
      fresh.querySelectorAll(".scroll").forEach((s, i) => { if (scrolled[i]) [s.scrollTop, s.scrollLeft] = scrolled[i]; });
      if (focused >= 0) fresh.querySelectorAll("a,button,summary,[tabindex]")[focused]?.focus({ preventScroll: true });
    };
  }

  function put(html) {
    const fresh = document.createElement("main");
    fresh.innerHTML = html;
    const ids = (root) => [...root.children].map((e) => e.id).join(" ");
    const restore = [];
    if (ids(fresh) !== ids(main)) {
      const after = keep(main, fresh);
      main.replaceChildren(...fresh.children);
      after();
      return;
    }
    [...fresh.children].forEach((part, i) => {
      const old = main.children[i];
      const source = part.innerHTML;
      if (part.dataset.live === undefined || (sources.get(old) ?? old.innerHTML) === source) return;
      restore.push(keep(old, part));
      sources.set(part, source);
      old.replaceWith(part);
    });
    restore.forEach((after) => after());
  }

  let wanted = "", shown = null, timer = 0, last = 0;

  async function refresh() {
    timer = 0;
    if (wanted === shown) return;
    if (busy()) { timer = setTimeout(refresh, 2000); return; }
    const token = wanted;
    try {
      const answer = await fetch(location.href, { headers: { "x-fragment": "1" } });
      if (!answer.ok) return;
      put(await answer.text());
      shown = token;
      last = Date.now();
    } catch { /* the stream says when the server is back */ }
  }

  const stream = new EventSource("/events");
  stream.onopen = () => { live.textContent = "Live"; live.className = "on"; };
  stream.onerror = () => { live.textContent = "Connection lost, trying again"; live.className = "off"; };
  stream.onmessage = (event) => {
    wanted = event.data;
    if (shown === null) { shown = wanted; return; }
    if (!timer) timer = setTimeout(refresh, Math.max(0, 2000 - (Date.now() - last)));
  };
  addEventListener("visibilitychange", () => { if (!document.hidden && wanted !== shown) refresh(); });

  // Under the pointer: the window's cells from the table behind the chart.
  let table = null, rows = [];
  function windows(id) {
    const found = document.querySelector(`#${id} tbody`);
    if (found !== table) { table = found; rows = found ? [...found.rows].map((r) => [Number(r.dataset.x), r]).reverse() : []; }
    return rows;
  }
  function nearest(list, x) {
    return list.reduce((best, row) => (Math.abs(row[0] - x) < Math.abs(best[0] - x) ? row : best), list[0]);
  }
  function clear() {
    document.querySelectorAll(".cursor").forEach((c) => c.remove());
    document.querySelectorAll("figure output").forEach((o) => { o.textContent = ""; });
  }
  document.addEventListener("pointermove", (event) => {
    const plot = event.target.closest?.("figure[data-rows] svg.plot");
    if (!plot) { if (document.querySelector(".cursor")) clear(); return; }
    const box = plot.getBoundingClientRect();
    const list = windows(plot.closest("figure").dataset.rows);
    if (!list.length) return;
    const [x, row] = nearest(list, ((event.clientX - box.left) / box.width) * 100);
    const heads = [...row.closest("table").tHead.rows[0].cells].map((c) => c.textContent);
    clear();
    document.querySelectorAll("figure[data-rows]").forEach((figure) => {
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [k, v] of Object.entries({ class: "cursor", x1: `${x}%`, x2: `${x}%`, y1: "0", y2: "100%" })) line.setAttribute(k, v);
      figure.querySelector("svg.plot").append(line);
      const cells = figure.dataset.cells.split(" ").map((i) => [heads[i], row.cells[i].textContent]);
      figure.querySelector("output").textContent = cells.map(([h, t], i) => (i && h !== "Version" ? `${h} ${t}` : t)).join(" · ");
    });
  }, { passive: true });
})();
