// Structures that are turned with the mouse, a finger or the arrow keys: atoms as shaded discs, far ones first, the
// cell, and arrows at atoms.
const VIEW_SIZE = 220;
const LONGEST_ARROW = 0.35; // of the view's radius

const plus = (a, b, s = 1) => a.map((x, k) => x + s * b[k]);
const dot = (a, b) => a.reduce((sum, x, k) => sum + x * b[k], 0);
const cartesian = (f, cell) => cell.reduce((r, vector, k) => plus(r, vector, f[k]), [0, 0, 0]);

// Atoms on a face, an edge or a corner of the cell are drawn there on all sides.
function withImages(view) {
  let atoms = view.fractional.map((f, k) => ({ f, z: view.numbers[k], arrow: view.arrows[k] }));
  for (let axis = 0; axis < 3; axis++) {
    if (!view.pbc[axis]) continue;
    const near = atoms.filter(({ f }) => Math.abs(f[axis]) < 0.01);
    atoms = atoms.concat(near.map((atom) => ({ ...atom, f: atom.f.map((x, k) => (k === axis ? x + 1 : x)) })));
  }
  return atoms;
}

function edges(cell) {
  const lines = [];
  for (let axis = 0; axis < 3; axis++)
    for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      const start = [0, 0, 0];
      start[(axis + 1) % 3] = i;
      start[(axis + 2) % 3] = j;
      const end = [...start];
      end[axis] = 1;
      lines.push([cartesian(start, cell), cartesian(end, cell)]);
    }
  return lines;
}

function scene(view) {
  const lines = edges(view.cell);
  const placed = withImages(view).map(({ f, z, arrow }) => ({ r: cartesian(f, view.cell), arrow, ...view.elements[z] }));
  const center = cartesian([0.5, 0.5, 0.5], view.cell);
  const reach = (points) => Math.max(...points.map((r) => Math.hypot(...plus(r, center, -1))));
  const radius = reach([...lines.flat(), ...placed.map(({ r }) => r)]) + 1;
  const atoms = placed.map(({ arrow, ...atom }) =>
    ({ ...atom, tip: arrow && plus(atom.r, arrow, LONGEST_ARROW * radius) }));
  const tips = atoms.flatMap(({ tip }) => (tip ? [tip] : []));
  return { atoms, lines, center, scale: VIEW_SIZE / (2 * Math.max(radius, reach([...tips, center]))) };
}

function drawLine(context, a, b) {
  context.beginPath();
  context.moveTo(a[0], a[1]);
  context.lineTo(b[0], b[1]);
  context.stroke();
}

function drawArrow(context, a, b) {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const length = Math.hypot(dx, dy);
  if (length < 2) return;
  const head = Math.min(6, length) / length;
  drawLine(context, a, b);
  for (const side of [-0.5, 0.5]) drawLine(context, b, [b[0] - head * (dx + side * dy), b[1] - head * (dy - side * dx)]);
}

function drawAtom(context, [x, y], color, size) {
  const shade = context.createRadialGradient(x - size / 3, y - size / 3, size / 8, x, y, size);
  shade.addColorStop(0, "#fff");
  shade.addColorStop(0.35, color);
  shade.addColorStop(1, "#222");
  context.fillStyle = shade;
  context.beginPath();
  context.arc(x, y, size, 0, 2 * Math.PI);
  context.fill();
}

function drawScene(canvas, { atoms, lines, center, scale }, turn) {
  const context = canvas.getContext("2d");
  const density = canvas.width / VIEW_SIZE;
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, VIEW_SIZE, VIEW_SIZE);
  const project = (r) => {
    const p = turn.map((row) => dot(row, plus(r, center, -1)));
    return [VIEW_SIZE / 2 + scale * p[0], VIEW_SIZE / 2 - scale * p[1], p[2]];
  };
  context.lineWidth = 1;
  context.strokeStyle = "#888";
  for (const [a, b] of lines) drawLine(context, project(a), project(b));
  const placed = atoms.map((atom) => ({ ...atom, at: project(atom.r) })).sort((a, b) => a.at[2] - b.at[2]);
  context.lineWidth = 2;
  context.strokeStyle = getComputedStyle(canvas).getPropertyValue("--arrow");
  for (const { at, tip, color, radius } of placed) {
    drawAtom(context, at, color, Math.max(0.5 * radius * scale, 1.5));
    if (tip) drawArrow(context, at, project(tip));
  }
}

function rotated(turn, i, j, angle) {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const rows = turn.map((row) => [...row]);
  rows[i] = turn[i].map((x, k) => c * x - s * turn[j][k]);
  rows[j] = turn[i].map((x, k) => s * x + c * turn[j][k]);
  return rows;
}

const KEYS = { ArrowLeft: [12, 0], ArrowRight: [-12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] };

for (const group of document.querySelectorAll(".turning")) {
  const shown = [...group.querySelectorAll(".view")].map((figure) =>
    [figure.querySelector("canvas"), scene(JSON.parse(figure.querySelector("script").textContent))]);
  let turn = rotated(rotated([[1, 0, 0], [0, 0, 1], [0, -1, 0]], 0, 2, 0.4), 1, 2, 0.3);
  const redraw = () => shown.forEach(([canvas, contents]) => drawScene(canvas, contents, turn));
  const turnBy = (across, down) => {
    turn = rotated(rotated(turn, 0, 2, -across / 80), 1, 2, down / 80);
    redraw();
  };
  for (const [canvas] of shown) {
    canvas.width = canvas.height = Math.round(VIEW_SIZE * Math.max(devicePixelRatio, 2)); // sharp on paper as well
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) turnBy(event.movementX, event.movementY);
    });
    canvas.addEventListener("keydown", (event) => {
      if (!KEYS[event.key]) return;
      event.preventDefault();
      turnBy(...KEYS[event.key]);
    });
  }
  redraw();
}
