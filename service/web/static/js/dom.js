// Elements in a line each.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, listeners (`onclick`, …), properties (`.value`) and children. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith(".")) element[name.slice(1)] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** A paragraph of what matters less. */
export const note = (...children) => h("p", { class: "quiet small" }, children);

/** Replaces what an element holds. */
export function put(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** What draws data, but only if they differ from those it has drawn last: a needless redrawing would take the focus. */
export function whenChanged(draw) {
  let drawn;
  return (data) => {
    const text = JSON.stringify(data);
    if (text === drawn) return;
    draw(data);
    drawn = text;
  };
}

let last = 0;

/** An id that no other element has. */
export const freshId = (prefix) => `${prefix}-${++last}`;
