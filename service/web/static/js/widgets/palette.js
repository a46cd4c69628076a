// The colours of labels, on pictures of any brightness.

export const PALETTE = ["#f0418a", "#2f9bff", "#2fbf4f", "#ff7a1a", "#9266ff", "#12b5cb"];

/** The colour of the label with this index. */
export const colourOf = (index) => PALETTE[index % PALETTE.length];
