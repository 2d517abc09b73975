// Structures that can be turned with the mouse or a finger: atoms as shaded discs, far ones first, and the cell.
"use strict";

const { elements, views } = JSON.parse(document.getElementById("structures").textContent);
const SIZE = 220;

const add = (a, b, s = 1) => a.map((x, k) => x + s * b[k]);
const dot = (a, b) => a.reduce((sum, x, k) => sum + x * b[k], 0);

// Atoms on a face, an edge or a corner of the cell are drawn there on all sides.
function withImages(view) {
  let atoms = view.fractional.map((f, k) => [f, view.numbers[k]]);
  for (let axis = 0; axis < 3; axis++) {
    if (!view.pbc[axis]) continue;
    const near = atoms.filter(([f]) => Math.abs(f[axis]) < 0.01);
    atoms = atoms.concat(near.map(([f, z]) => [f.map((x, k) => (k === axis ? x + 1 : x)), z]));
  }
  return atoms;
}

const cartesian = (f, cell) => cell.reduce((r, vector, k) => add(r, vector, f[k]), [0, 0, 0]);

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
  const atoms = withImages(view).map(([f, z]) => [cartesian(f, view.cell), elements[z]]);
  const lines = edges(view.cell);
  const points = lines.flat().concat(atoms.map(([r]) => r));
  const centre = cartesian([0.5, 0.5, 0.5], view.cell);
  const radius = Math.max(...points.map((r) => Math.hypot(...add(r, centre, -1)))) + 1;
  return { atoms, lines, centre, scale: SIZE / (2 * radius) };
}

function draw(canvas, { atoms, lines, centre, scale }, turn) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, SIZE, SIZE);
  const project = (r) => {
    const p = turn.map((row) => dot(row, add(r, centre, -1)));
    return [SIZE / 2 + scale * p[0], SIZE / 2 - scale * p[1], p[2]];
  };
  context.strokeStyle = "#888";
  for (const [a, b] of lines.map((line) => line.map(project))) {
    context.beginPath();
    context.moveTo(a[0], a[1]);
    context.lineTo(b[0], b[1]);
    context.stroke();
  }
  const projected = atoms.map(([r, element]) => [project(r), element]);
  for (const [[x, y], { colour, radius }] of projected.sort((a, b) => a[0][2] - b[0][2])) {
    const size = Math.max(0.5 * radius * scale, 1.5);
    const shade = context.createRadialGradient(x - size / 3, y - size / 3, size / 8, x, y, size);
    shade.addColorStop(0, "#fff");
    shade.addColorStop(0.35, colour);
    shade.addColorStop(1, "#222");
    context.fillStyle = shade;
    context.beginPath();
    context.arc(x, y, size, 0, 2 * Math.PI);
    context.fill();
  }
}

function rotated(turn, i, j, angle) {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const rows = turn.map((row) => [...row]);
  rows[i] = turn[i].map((x, k) => c * x - s * turn[j][k]);
  rows[j] = turn[i].map((x, k) => s * x + c * turn[j][k]);
  return rows;
}

// Before and after turn together.
for (const pair of document.querySelectorAll(".pair")) {
  const shown = [...pair.querySelectorAll("canvas")].map((canvas) => [canvas, scene(views[canvas.dataset.view])]);
  let turn = rotated(rotated([[1, 0, 0], [0, 0, 1], [0, -1, 0]], 0, 2, 0.4), 1, 2, 0.3);
  const redraw = () => shown.forEach(([canvas, contents]) => draw(canvas, contents, turn));
  for (const [canvas] of shown) {
    canvas.width = canvas.height = SIZE;
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) return;
      turn = rotated(rotated(turn, 0, 2, -event.movementX / 80), 1, 2, event.movementY / 80);
      redraw();
    });
  }
  redraw();
}
