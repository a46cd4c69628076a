// A recurrent unit with three numbers of state, whose weights were set by hand.

export const TOPICS = ["oil", "grain", "money"];
// What each word adds to the state; those that are not named add nothing, nor does padding.
const WORDS = {
  oil: [1.2, -0.2, 0],
  opec: [1, -0.1, 0.1],
  output: [0.4, 0.2, 0],
  wheat: [-0.2, 1.2, 0],
  exports: [0.1, 0.4, 0.1],
  tonnes: [-0.1, 0.7, 0],
  bank: [0, -0.2, 1],
  rates: [0, -0.1, 0.8],
  dollar: [0, -0.1, 1.1],
  prices: [0.2, 0.2, 0.2],
};
export const SENTENCES = [
  "opec cut its output and oil prices rose",
  "wheat exports fell to two million tonnes",
  "the bank cut its rates and the dollar fell",
  "news of wheat then news of oil",
  "news of oil then news of wheat",
];
export const KEPT = 0.9; // how much of the state goes into the next
const BIAS = [0, 0.05, 0];
const SHARP = 3; // of the answer
export const PAD = null;

/** The state after a word, and the parts that it is the sum of. */
export function read(before, word) {
  const added = WORDS[word] ?? [0, 0, 0];
  return before.map((value, unit) => {
    const sum = added[unit] + KEPT * value + BIAS[unit];
    return { word: added[unit], kept: KEPT * value, bias: BIAS[unit], sum, state: Math.tanh(sum) };
  });
}

/** The states before the first word and after each; with a mask, padding leaves the state as it is. */
export function readAll(words, masked) {
  const states = [TOPICS.map(() => 0)];
  for (const word of words) {
    const before = states.at(-1);
    states.push(word === PAD && masked ? before : read(before, word).map(({ state }) => state));
  }
  return states;
}

/** The probability of each topic. */
export function answerOf(state) {
  const powers = state.map((value) => Math.exp(SHARP * value));
  const sum = powers.reduce((total, each) => total + each);
  return powers.map((each) => each / sum);
}
