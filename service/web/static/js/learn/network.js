// A network of two inputs, one hidden layer and one output, with its gradients written out.

const sigmoid = (z) => 1 / (1 + Math.exp(-z));

const UNDECIDED = 1e-6;

// Each function, and its slope by what went in and what came out.
export const ACTIVATIONS = {
  none: [(z) => z, () => 1],
  relu: [(z) => Math.max(0, z), (z) => (z > 0 ? 1 : 0)],
  sigmoid: [sigmoid, (_, a) => a * (1 - a)],
  tanh: [Math.tanh, (_, a) => 1 - a * a],
  step: [(z) => (z > 0 ? 1 : 0), () => 0],
};

/** Numbers between 0 and 1, the same for the same seed (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * `weights` has two weights, a bias and the weight to the output of each hidden unit, and then the output's bias. With
 * no hidden unit, it has two weights and a bias. All begin as normal random numbers, but the output's bias as 0, as in
 * `course/neuron.py`.
 *
 * @param hidden number of hidden units.
 * @param activation of the hidden units; the output's is the sigmoid.
 */
export function network(hidden, activation, seed) {
  const [act, slope] = ACTIVATIONS[activation];
  const next = random(seed);
  const normal = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()); // Box and Muller
  const weights = Float64Array.from({ length: hidden ? 4 * hidden + 1 : 3 }, normal);
  weights[weights.length - 1] = 0;

  function logit(x, y) {
    if (!hidden) return weights[0] * x + weights[1] * y + weights[2];
    let sum = weights[4 * hidden];
    for (let at = 0; at < 4 * hidden; at += 4) {
      sum += weights[at + 3] * act(weights[at] * x + weights[at + 1] * y + weights[at + 2]);
    }
    return sum;
  }

  /** The mean cross-entropy. Points are `[x, y, target]`. */
  function loss(points) {
    const each = ([x, y, target]) => {
      const z = (target ? 1 : -1) * logit(x, y);
      return Math.max(0, -z) + Math.log1p(Math.exp(-Math.abs(z)));
    };
    return points.reduce((sum, point) => sum + each(point), 0) / points.length;
  }

  /** The slope of the loss by each weight, by the chain rule from the output back to the inputs. */
  function gradient(points) {
    const slopes = new Float64Array(weights.length);
    for (const [x, y, target] of points) {
      const error = (sigmoid(logit(x, y)) - target) / points.length; // of the output, before its sigmoid
      slopes[slopes.length - 1] += error;
      if (!hidden) {
        slopes[0] += error * x;
        slopes[1] += error * y;
      }
      for (let at = 0; at < 4 * hidden; at += 4) {
        const z = weights[at] * x + weights[at + 1] * y + weights[at + 2];
        const a = act(z);
        const back = error * weights[at + 3] * slope(z, a); // of the hidden unit, before its activation
        slopes[at] += back * x;
        slopes[at + 1] += back * y;
        slopes[at + 2] += back;
        slopes[at + 3] += error * a;
      }
    }
    return slopes;
  }

  return {
    weights,
    loss,
    gradient,
    /** The probability of class 1. */
    predict: (x, y) => sigmoid(logit(x, y)),
    /** One step of gradient descent on all points. */
    step(points, rate) {
      gradient(points).forEach((each, at) => {
        weights[at] -= rate * each;
      });
    },
    /** How many points are on the right side of one half, and not just on it. */
    right: (points) => points.filter(([x, y, target]) => (target ? 1 : -1) * logit(x, y) > UNDECIDED).length,
  };
}
