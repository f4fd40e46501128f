// Elements made one by one. Text from data only ever becomes a text node or the value of a harmless attribute.
const SVG = "http://www.w3.org/2000/svg";

const filled = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null));
  return node;
};
const make = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
const draw = (name, attributes = {}, ...children) => filled(document.createElementNS(SVG, name), attributes, children);
const byId = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(share > 0.995 && share < 1 ? 1 : 0)}%`;
const figure = (value, digits = 3) => {
  if (value === null) return "–";
  return (Math.abs(value) < 0.5 * 10 ** -digits ? 0 : value).toFixed(digits); // no minus before nothing
};
