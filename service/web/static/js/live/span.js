// How long something usually takes: a running mean and mean deviation, as TCP keeps of its round trips (Jacobson 1988).

const GAIN = 1 / 8;
const DEVIATION_GAIN = 1 / 4;
const WIDTH = 2; // mean deviations to either side

export function span() {
  let mean = null;
  let deviation = 0;
  return {
    observe(milliseconds) {
      if (mean === null) [mean, deviation] = [milliseconds, milliseconds / 2];
      const off = milliseconds - mean;
      mean += GAIN * off;
      deviation += DEVIATION_GAIN * (Math.abs(off) - deviation);
    },
    /** What it seldom stays below, in milliseconds. */
    get least() {
      return Math.max(0, (mean ?? 0) - WIDTH * deviation);
    },
    /** What it seldom exceeds. */
    get most() {
      return (mean ?? 0) + WIDTH * deviation;
    },
  };
}
