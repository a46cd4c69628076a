// Boxes `[left, top, right, bottom]` on a plane: their area, what two of them share, and how one is moved.

export const [WIDTH, HEIGHT] = [16, 10]; // of the plane

export const area = ([left, top, right, bottom]) => Math.max(0, right - left) * Math.max(0, bottom - top);

/** Where both boxes are; its area is 0 or its sides are negative if they do not overlap. */
export function intersection(a, b) {
  return [Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])];
}

export function overlap(a, b) {
  const both = area(intersection(a, b));
  return both / (area(a) + area(b) - both);
}

/** A box of which edges were moved, still inside the plane and at least one unit wide and high. */
export function moved(box, [x, y], edges) {
  const whole = edges.length === 4;
  const limit = (value, low, high) => Math.max(low, Math.min(high, value));
  const by = whole
    ? [limit(x, -box[0], WIDTH - box[2]), limit(y, -box[1], HEIGHT - box[3])]
    : [x, y];
  const next = box.map((value, edge) => value + (edges.includes(edge) ? by[edge % 2] : 0));
  if (whole) return next;
  return [
    edges.includes(0) ? limit(next[0], 0, box[2] - 1) : box[0],
    edges.includes(1) ? limit(next[1], 0, box[3] - 1) : box[1],
    edges.includes(2) ? limit(next[2], box[0] + 1, WIDTH) : box[2],
    edges.includes(3) ? limit(next[3], box[1] + 1, HEIGHT) : box[3],
  ];
}
