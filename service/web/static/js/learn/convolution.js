// A convolution of a small picture with one kernel, and what to begin with.

export const SIDE = 3; // of the kernel
// Each character is the brightness of a pixel: `.` is 0, `#` is 1, a digit so many tenths.
export const PICTURES = {
  corner: "..... ..... ..### ..### ..###", // the example of the text
  digit: "............ ............ ..########.. ..########.. ........##.. .......##... ......##.... ......##.... .....##..... ....##...... ....##...... ............",
  square: "............ ............ ............ ...######... ...######... ...######... ...######... ...######... ...######... ............ ............ ............",
  slope: "............ 111111111111 222222222222 333333333333 444444444444 555555555555 555555555555 666666666666 777777777777 888888888888 999999999999 ############",
};
export const KERNELS = {
  vertical: [-1, 0, 1, -1, 0, 1, -1, 0, 1],
  horizontal: [-1, -1, -1, 0, 0, 0, 1, 1, 1],
  blur: Array(9).fill(0.1),
  sharpen: [0, -1, 0, -1, 5, -1, 0, -1, 0],
  identity: [0, 0, 0, 0, 1, 0, 0, 0, 0],
};
/** The rows of a picture, from 0 to 1. */
export const pixelsOf = (name) =>
  PICTURES[name].split(" ").map((row) => [...row].map((each) => (each === "." ? 0 : each === "#" ? 1 : each / 10)));

/** The side of the output. */
export const sizeOf = (size, padding, stride) => Math.floor((size + 2 * padding - SIDE) / stride) + 1;

/** The pixels and weights that make one cell of the output; pixels of the padding are 0. */
export function windowAt(picture, kernel, { padding, stride }, row, column) {
  return kernel.map((weight, at) => {
    const [y, x] = [row * stride - padding + Math.floor(at / SIDE), column * stride - padding + (at % SIDE)];
    return { x, y, weight, pixel: picture[y]?.[x] ?? 0 };
  });
}

/** The sum of the products. */
export const total = (window) => window.reduce((sum, { weight, pixel }) => sum + weight * pixel, 0);

/** The output for a picture, as rows of numbers. */
export function convolve(picture, kernel, options) {
  const size = sizeOf(picture.length, options.padding, options.stride);
  return Array.from({ length: size }, (_, row) =>
    Array.from({ length: size }, (_, column) => total(windowAt(picture, kernel, options, row, column))),
  );
}
