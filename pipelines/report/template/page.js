// What the page of a run does: galleries, ticks, the map, the leaderboard; of an exploration, whose
// images have a cluster in place of a label and no answer, those of them that it has.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const { images, galleries, specs, curve } = data;
  const classes = images.classes;
  const DROP = -1;
  const PAGE = 24;
  const ROWS = 12;
  const byId = (id) => document.getElementById(id);
  const all = (query, within = document) => [...within.querySelectorAll(query)];

  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in element) element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  const say = (text) => { byId("heard").textContent = text; };
  const counted = (n) => `${n} ${n === 1 ? "image" : "images"}`;
  const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}\u202f%`;
  const isAnswered = images.predicted !== undefined;
  const part = (row) => (images.test[row] ? "test" : "training");
  const isWrong = (row) => isAnswered && images.label[row] !== images.predicted[row];

  // ---- one image

  function picture(row) {
    const frame = make("div", { className: "picture" });
    const kept = images.picture[row];
    if (!kept) frame.append(make("span", { className: "missing" }, "no picture kept"));
    else frame.append(make("img", { src: `data:image/jpeg;base64,${kept}`, alt: "", decoding: "async" }));
    if (isAnswered) frame.append(make("span", { className: "tag" }, part(row)));
    return frame;
  }

  function said(row) {
    const line = make("span", { className: "said" });
    line.append(make("b", {}, classes[images.label[row]]));
    if (!isAnswered) return line;
    if (isWrong(row)) line.append(", named ", make("span", { className: "bad" }, classes[images.predicted[row]]));
    line.append(` ${percent(images.probability[row])}`);
    return line;
  }

  const nameOf = (row) =>
    make("span", { className: "name", title: images.folder + images.path[row] }, images.path[row]);

  function told(row) {
    return make("div", { className: "told" }, said(row), nameOf(row));
  }

  // ---- ticks: row -> class, or DROP

  const ticks = new Map();

  function mend(row, proposed) {
    const box = make("input", { type: "checkbox", checked: ticks.has(row) });
    const label = make("label", {}, box, "mend");
    label.append(make("span", { className: "heard" }, ` ${images.path[row]}`));
    const line = make("div", { className: "mend" }, label);
    line.dataset.row = row;
    line.dataset.proposed = proposed;
    box.addEventListener("change", () => {
      if (box.checked) ticks.set(row, proposed);
      else ticks.delete(row);
      showTicks(row);
    });
    showMend(line);
    return line;
  }

  function showMend(line) {
    const row = Number(line.dataset.row);
    const ticked = ticks.has(row);
    line.querySelector("input").checked = ticked;
    line.closest(".one")?.classList.toggle("ticked", ticked);
    let choice = line.querySelector("select");
    if (!ticked) {
      choice?.remove();
      return;
    }
    if (!choice) {
      choice = make("select", { "aria-label": `label of ${images.path[row]}` });
      choice.append(...classes.map((name, i) => make("option", { value: i }, name)));
      choice.append(make("option", { value: DROP }, "drop"));
      choice.addEventListener("change", () => {
        ticks.set(row, Number(choice.value));
        showTicks(row);
      });
      line.append(choice);
    }
    choice.value = String(ticks.get(row));
  }

  function showTicks(row) {
    for (const line of all(row === undefined ? ".mend[data-row]" : `.mend[data-row="${row}"]`)) showMend(line);
    showBasket();
  }

  function showBasket() {
    // what was labelled before is no reason to save a table
    const n = ticks.size + written.image.size + written.cluster.size ? labelled().length : 0;
    byId("basket").hidden = n === 0;
    document.body.style.paddingBottom = n ? `${byId("basket").offsetHeight}px` : "";
    byId("basket-count").textContent = `${counted(n)} ${isAnswered ? "ticked" : "labelled"}`;
    byId("csv").value = asCsv();
  }

  // ---- labels that are written: by row, and by cluster

  const written = { image: new Map(), cluster: new Map() };

  function nameField(kind, key, words) {
    const field = make("input", { type: "text", "aria-label": words, placeholder: "label", autocomplete: "off" });
    field.setAttribute("list", "names"); // what was written before is offered
    field.value = written[kind].get(key) ?? "";
    field.addEventListener("input", () => {
      const text = field.value.trim();
      if (text) written[kind].set(key, text);
      else written[kind].delete(key);
      showBasket();
    });
    field.addEventListener("change", () => {
      const names = new Set(["drop", ...written.cluster.values(), ...written.image.values()]);
      byId("names").replaceChildren(...[...names].map((value) => make("option", { value })));
    });
    return field;
  }

  for (const own of all("[data-cluster]")) {
    const number = Number(own.dataset.cluster);
    own.append(nameField("cluster", number, `label of ${classes[number]}`));
  }

  // ---- the table of labels

  const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  // what a spreadsheet would compute, as `data.names.as_cell` writes it
  const plainText = (text) => (/^'*[=+\-@]/.test(text) ? `'${text}` : text);

  const pathOf = (row) => images.cells[row] ?? images.folder + images.path[row];

  // [path, label] of each row of the table
  function labelled() {
    if (isAnswered) return [...ticks].map(([row, label]) => [pathOf(row), label === DROP ? "drop" : images.class_cells[label]]);
    const shown = images.label
      .map((own, row) => [row, written.image.get(row), images.known[row], written.cluster.get(own)])
      .map(([row, image, known, cluster]) => [pathOf(row), image ? plainText(image) : known ?? plainText(cluster ?? "")])
      .filter(([, name]) => name);
    return [...shown, ...images.absent];
  }

  function asCsv() {
    const lines = labelled().map((own) => own.map(cell).join(","));
    return ["path,label", ...lines, ""].join("\n");
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    say("Copied");
  }

  function flash(button, words) {
    const before = button.textContent;
    button.textContent = words;
    setTimeout(() => { button.textContent = before; }, 1500);
  }

  byId("copy-csv").addEventListener("click", async (event) => {
    await copy(asCsv());
    flash(event.target, "Copied");
  });
  byId("show-csv").addEventListener("click", (event) => {
    const area = byId("csv");
    area.hidden = !area.hidden;
    event.target.setAttribute("aria-expanded", String(!area.hidden));
    event.target.textContent = area.hidden ? "Show" : "Hide";
    document.body.style.paddingBottom = `${byId("basket").offsetHeight}px`;
  });
  byId("save-csv").addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([asCsv()], { type: "text/csv" }));
    make("a", { href: address, download: byId("basket").dataset.file }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
  byId("clear-csv").addEventListener("click", () => {
    ticks.clear();
    for (const kind of Object.values(written)) kind.clear();
    for (const field of all(".mend input[list]")) field.value = "";
    showTicks();
  });

  // ---- why a mistake was made

  function why(found) {
    const frame = make("details", { className: "why" }, make("summary", {}, "Why?"));
    frame.addEventListener("toggle", () => {
      if (!frame.open || frame.children.length > 1) return;
      if (found.drawn) {
        const words = `Places that speak for ${found.for} in orange, for ${found.over} in purple`;
        const drawn = make("img", { src: `data:image/jpeg;base64,${found.drawn}`, alt: `${words}.` });
        frame.append(make("figure", {}, drawn, make("figcaption", {}, words)));
      }
      if (!found.nearest.length) return;
      const list = make("ol", {});
      for (const near of found.nearest) {
        const figure = make("b", {}, near.figure);
        figure.dataset.key = near.pointer;
        const words = make("span", {}, `${classes[images.label[near.row]]} `, figure);
        list.append(make("li", { title: images.folder + images.path[near.row] }, small(near.row), words));
      }
      frame.append(make("p", {}, "Nearest training images, with how far they are:"), list);
      if (!found.drawn) frame.append(make("p", {}, found.no_map));
    });
    return frame;
  }

  function small(row) {
    const kept = images.picture[row];
    return kept ? make("img", { src: `data:image/jpeg;base64,${kept}`, alt: "" }) : make("i", {});
  }

  // ---- cards

  function card(item) {
    const many = item.rows.length > 1;
    const both = make("div", { className: "both" });
    for (const row of item.rows) {
      const one = make("div", { className: "one" }, picture(row), told(row));
      both.append(one);
      if (item.asks) {
        const words = `label of ${images.path[row]}`;
        one.querySelector(".told").append(make("div", { className: "mend" }, nameField("image", row, words)));
      }
      if (!data.mends) continue;
      const line = mend(row, item.propose);
      one.querySelector(".told").append(line);
      showMend(line);
    }
    const own = make("li", { className: many ? "card pair" : "card" }, both);
    if (item.reason) {
      const figure = make("b", {}, item.figure ?? "");
      if (item.pointer) figure.dataset.key = item.pointer;
      own.append(make("div", { className: item.alarm ? "reason alarm" : "reason" }, `${item.reason} `, figure));
    }
    if (item.why) own.append(why(item.why));
    return own;
  }

  function fill(frame, items, from = 0) {
    let list = frame.querySelector("ul");
    if (!list) {
      list = make("ul", { className: "cards" });
      frame.replaceChildren(list);
    }
    if (!items.length) frame.replaceChildren(make("p", { className: "quiet" }, "None found."));
    list.append(...items.slice(from, from + PAGE).map(card));
    const left = items.length - from - PAGE;
    if (left > 0) {
      const more = make("button", { type: "button", className: "more" }, `Show ${Math.min(left, PAGE)} more of ${items.length}`);
      more.addEventListener("click", () => {
        const first = list.children.length;
        more.remove();
        fill(frame, items, from + PAGE);
        list.children[first]?.querySelector("input")?.focus();
      });
      frame.append(more);
    }
  }

  for (const frame of all("[data-gallery]")) {
    const items = galleries[frame.dataset.gallery];
    const cards = frame.querySelector("[data-cards]");
    cards.classList.remove("cards");
    const open = () => {
      if (frame.open && !cards.childElementCount) fill(cards, items);
    };
    frame.addEventListener("toggle", open);
    open();
  }

  // a link to a gallery opens it
  for (const link of all("a[href^='#']")) {
    link.addEventListener("click", () => {
      const target = byId(link.getAttribute("href").slice(1));
      if (target?.tagName === "DETAILS") target.open = true;
    });
  }

  const plain = (row) => ({ rows: [row], propose: images.predicted?.[row] });

  function openGallery(frame, title, rows, opener) {
    const heading = make("h3", { tabIndex: -1 }, title);
    const close = make("button", { type: "button" }, "Close");
    const cards = make("div");
    close.addEventListener("click", () => {
      frame.hidden = true;
      opener?.setAttribute?.("aria-expanded", "false");
      opener?.focus?.();
    });
    heading.append(close);
    frame.replaceChildren(heading, cards);
    frame.hidden = false;
    fill(cards, rows.map(plain));
    return heading;
  }

  // ---- the confusion matrix

  for (const own of all(".cell")) {
    own.setAttribute("aria-expanded", "false");
    own.addEventListener("click", () => {
      for (const other of all(".cell[aria-expanded='true']")) other.setAttribute("aria-expanded", "false");
      own.setAttribute("aria-expanded", "true");
      const label = Number(own.dataset.label);
      const predicted = Number(own.dataset.predicted);
      const rows = images.label
        .map((_, row) => row)
        .filter((row) => images.test[row] && images.label[row] === label && images.predicted[row] === predicted)
        .sort((a, b) => images.probability[b] - images.probability[a]);
      const right = label === predicted;
      const title = right
        ? `${counted(rows.length)} of ${classes[label]} named right`
        : `${counted(rows.length)} of ${classes[label]} named ${classes[predicted]}`;
      const heading = openGallery(byId("cell-images"), title, rows, own);
      heading.focus({ preventScroll: true });
      byId("cell-images").scrollIntoView({ block: "nearest" });
    });
  }

  // ---- figures

  const views = {};
  const drawing = {};
  const options = { renderer: "svg", actions: false, ast: true, defaultStyle: false, mode: "vega-lite" };

  function draw(frame) {
    const name = frame.dataset.chart;
    drawing[name] ??= (async () => {
      const spec = specs[name];
      if (name === "map") spec.data.values = points;
      const { view } = await vegaEmbed(frame, spec, options);
      for (const svg of all("svg", frame)) svg.setAttribute("aria-hidden", "true");
      views[name] = view;
      if (name === "map") setUpMap(view);
      if (name === "confidence") accept();
    })();
    return drawing[name];
  }

  const charts = all("[data-chart]");
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        seen.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "400px" },
  );
  for (const frame of charts) seen.observe(frame);
  // what is printed has not been scrolled to
  window.addEventListener("beforeprint", () => {
    for (const frame of charts) draw(frame);
    for (const frame of all("details")) frame.open = true;
  });

  // ---- confidence against accuracy

  function accept() {
    const at = curve[Number(byId("accept").value)];
    const words = {
      threshold: at.threshold.toFixed(2),
      kept: `${(100 * at.kept).toFixed(0)}\u202f%`,
      accuracy: `${(100 * at.accuracy).toFixed(1)}\u202f%`,
      images: String(at.images),
      low: (100 * at.low).toFixed(1),
      high: (100 * at.high).toFixed(1),
    };
    for (const own of all("[data-accept]")) own.textContent = words[own.dataset.accept];
    byId("accept").setAttribute("aria-valuetext", `${words.threshold}, ${words.kept} kept`);
    views.confidence?.data("chosen", [{ threshold: at.threshold }]).run();
  }
  byId("accept")?.addEventListener("input", accept);

  // ---- the map

  const points = images.x
    .map((x, row) => ({
      row, x, y: images.y[row], label: images.label[row], part: images.test?.[row] ? "test" : "train",
      wrong: isWrong(row), order: 2 * isWrong(row) + (images.test?.[row] ?? 0),
    }))
    .filter((point) => point.x !== null);

  function setUpMap(view) {
    const frame = byId("map-frame");
    const peek = byId("map-peek");
    const ring = byId("map-ring");
    const box = { width: 0, height: 0 };
    let places = [];
    let at = null;

    function locate() {
      const [x, y] = [view.scale("x"), view.scale("y")];
      const [left, top] = view.origin();
      const edge = view.padding();
      const svg = frame.querySelector("svg").getBoundingClientRect();
      const outer = frame.getBoundingClientRect();
      box.width = outer.width;
      box.height = outer.height;
      const [dx, dy] = [left + edge.left + svg.left - outer.left, top + edge.top + svg.top - outer.top];
      places = points.map((point) => ({ point, x: x(point.x) + dx, y: y(point.y) + dy }));
    }

    const distance = (place, x, y) => Math.hypot(place.x - x, place.y - y);

    function nearest(x, y, within) {
      let best = null;
      for (const place of places) {
        if (distance(place, x, y) < (best ? distance(best, x, y) : within)) best = place;
      }
      return best;
    }

    function show(place) {
      at = place;
      peek.hidden = ring.hidden = !place;
      if (!place) return;
      ring.style.left = `${place.x}px`;
      ring.style.top = `${place.y}px`;
      peek.replaceChildren(picture(place.point.row), told(place.point.row));
      const [width, height] = [peek.offsetWidth, peek.offsetHeight];
      const right = place.x + 18 + width < box.width;
      peek.style.left = `${Math.max(6, right ? place.x + 18 : place.x - 18 - width)}px`;
      peek.style.top = `${Math.max(6, Math.min(place.y - height / 2, box.height - height - 6))}px`;
    }

    function list(rows, title) {
      const heading = openGallery(byId("map-images"), title, rows, frame);
      say(heading.firstChild.textContent);
      return heading;
    }

    const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

    function step([dx, dy]) {
      let best = null;
      let least = Infinity;
      for (const place of places) {
        const along = (place.x - at.x) * dx + (place.y - at.y) * dy;
        const aside = Math.abs((place.x - at.x) * dy) + Math.abs((place.y - at.y) * dx);
        if (along <= 0 || aside > 2 * along) continue;
        if (along + 2 * aside < least) [best, least] = [place, along + 2 * aside];
      }
      return best;
    }

    function tell(place) {
      show(place);
      const { row } = place.point;
      if (!isAnswered) {
        say(`${images.path[row]}, ${classes[images.label[row]]}`);
        return;
      }
      const wrong = isWrong(row) ? `named ${classes[images.predicted[row]]}, wrong` : "named right";
      say(`${images.path[row]}, ${part(row)}, ${classes[images.label[row]]}, ${wrong}, ${percent(images.probability[row])}`);
    }

    frame.addEventListener("pointermove", (event) => {
      if (event.buttons) return;
      const outer = frame.getBoundingClientRect();
      show(nearest(event.clientX - outer.left, event.clientY - outer.top, 18));
    });
    frame.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse") return;
      const outer = frame.getBoundingClientRect();
      show(nearest(event.clientX - outer.left, event.clientY - outer.top, 30));
    });
    frame.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") show(null);
    });
    frame.addEventListener("focus", () => {
      if (places.length && !at && frame.matches(":focus-visible")) tell(nearest(box.width / 2, box.height / 2, Infinity));
    });
    frame.addEventListener("blur", () => show(null));
    frame.addEventListener("keydown", (event) => {
      if (event.key in ARROWS && places.length) {
        event.preventDefault();
        at ??= nearest(box.width / 2, box.height / 2, Infinity);
        tell(step(ARROWS[event.key]) ?? at);
      } else if (event.key === "Enter" && at) {
        event.preventDefault();
        const { x, y } = at;
        const near = [...places].sort((a, b) => distance(a, x, y) - distance(b, x, y)).slice(0, ROWS);
        list(near.map((place) => place.point.row), `The ${near.length} images nearest to this one`).focus();
      } else if (event.key === "Escape") {
        show(null);
      }
    });

    let waiting = 0;
    view.addSignalListener("box", (_, value) => {
      clearTimeout(waiting);
      if (!value.x || !value.y) return;
      waiting = setTimeout(() => {
        const [x, y] = [value.x, value.y].map((ends) => [Math.min(...ends), Math.max(...ends)]);
        const inside = points
          .filter((p) => p.x >= x[0] && p.x <= x[1] && p.y >= y[0] && p.y <= y[1])
          .sort((a, b) => b.wrong - a.wrong);
        if (inside.length) list(inside.map((point) => point.row), `${counted(inside.length)} in the box${isAnswered ? ", wrong ones first" : ""}`);
      }, 250);
    });
    view.addResizeListener(() => setTimeout(locate, 50));
    new ResizeObserver(() => setTimeout(locate, 150)).observe(frame);
    locate();

    for (const button of all("[data-pick]")) {
      button.addEventListener("click", () => {
        const pressed = button.getAttribute("aria-pressed") !== "true";
        for (const other of all("[data-pick]")) other.setAttribute("aria-pressed", "false");
        button.setAttribute("aria-pressed", String(pressed));
        view.signal("picked", pressed ? Number(button.dataset.pick) : null).run();
      });
    }
  }

  byId("copy-command")?.addEventListener("click", async (event) => {
    await copy(byId("command").textContent);
    flash(event.target, "Copied");
  });

  // ---- the leaderboard, which comes last: an exploration has none

  const board = byId("leaderboard");
  if (!board) return;
  const body = board.tBodies[0];
  const lines = [...body.rows];
  const more = byId("all-rows");
  let whole = lines.length <= ROWS + 3;

  function showRows() {
    const words = byId("find-rows").value.toLowerCase().split(/\s+/).filter(Boolean);
    const tied = byId("tied-only").checked;
    let found = 0;
    let shown = 0;
    for (const line of body.rows) {
      const text = line.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word)) && (!tied || line.classList.contains("tied"));
      const visible = fits && (whole || shown < ROWS || line.classList.contains("taken"));
      found += fits;
      shown += visible;
      line.hidden = !visible;
    }
    more.hidden = shown === found;
    more.textContent = `Show all ${found}`;
    byId("rows-shown").textContent = found < lines.length ? `${found} of ${lines.length} rows` : `${lines.length} rows`;
  }

  more.addEventListener("click", () => {
    whole = true;
    showRows();
  });
  byId("find-rows").addEventListener("input", showRows);
  byId("tied-only").addEventListener("change", showRows);

  for (const button of all("[data-sort]", board)) {
    const head = button.closest("th");
    const key = (line) => {
      const own = line.cells[head.cellIndex];
      return own.dataset.value ?? own.textContent.trim();
    };
    button.addEventListener("click", () => {
      // figures are read from the largest down, their number and names from the first up
      const first = head.classList.contains("figure") ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      for (const other of all("th", board.tHead)) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const numbers = button.dataset.sort === "number";
      const compare = (a, b) => (numbers ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b)));
      body.append(...[...body.rows].sort((a, b) => sign * compare(a, b)));
      showRows();
    });
  }

  for (const button of all("[data-tap]", byId("layers")).filter((own) => own.matches("button"))) {
    button.addEventListener("click", () => {
      byId("find-rows").value = button.dataset.tap;
      byId("tied-only").checked = false;
      showRows();
      byId("leaderboard-title").scrollIntoView({ block: "start" });
      byId("find-rows").focus({ preventScroll: true });
    });
  }
  showRows();
})();
