// Reading charts: the values of the point next to the cursor, and series that the legend hides and shows.
for (const figure of document.querySelectorAll(".chart")) {
  const { x, y, series } = JSON.parse(figure.querySelector("script").textContent);
  const svg = figure.querySelector("svg");
  const pointer = figure.querySelector(".pointer");
  const tip = figure.querySelector(".tip");
  const hidden = new Set();
  const REACH = 30; // of the cursor, in the chart's units

  const place = (axis, value) =>
    axis.log ? Math.log(value / axis.low) / Math.log(axis.high / axis.low) : (value - axis.low) / (axis.high - axis.low);

  const points = series.flatMap((one, number) => one.x.flatMap((value, k) => {
    if (value === null || one.y[k] === null) return [];
    const [across, down] = [x.length * place(x, value), y.length * (1 - place(y, one.y[k]))];
    return Number.isFinite(across) && Number.isFinite(down) ? [{ across, down, number, k }] : [];
  }));

  function nearest(across, down) {
    let best = null;
    let least = REACH;
    for (const point of points) {
      const distance = Math.hypot(point.across - across, point.down - down);
      if (distance < least && !hidden.has(point.number)) [best, least] = [point, distance];
    }
    return best;
  }

  function show(point) {
    pointer.setAttribute("visibility", point ? "visible" : "hidden");
    tip.hidden = !point;
    if (!point) return;
    pointer.setAttribute("cx", point.across);
    pointer.setAttribute("cy", point.down);
    const { name, notes, x: xs, y: ys } = series[point.number];
    const title = notes[point.k] ? `${name}, ${notes[point.k]}` : name;
    tip.textContent = `${title}\n${x.label}: ${xs[point.k]}\n${y.label}: ${ys[point.k]}`;
    const box = figure.getBoundingClientRect();
    const at = new DOMPoint(point.across, point.down).matrixTransform(pointer.getScreenCTM());
    const half = tip.offsetWidth / 2;
    tip.style.left = `${Math.max(half, Math.min(at.x - box.left, box.width - half))}px`;
    tip.style.top = `${at.y - box.top}px`;
  }

  svg.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(pointer.getScreenCTM().inverse());
    show(nearest(at.x, at.y));
  });
  svg.addEventListener("pointerleave", () => show(null));

  for (const button of figure.querySelectorAll(".legend button"))
    button.addEventListener("click", () => {
      const number = Number(button.dataset.series);
      const isShown = hidden.has(number);
      if (isShown) hidden.delete(number);
      else hidden.add(number);
      button.setAttribute("aria-pressed", isShown);
      figure.querySelector(`.series[data-series="${number}"]`).style.display = isShown ? "" : "none";
    });
}
