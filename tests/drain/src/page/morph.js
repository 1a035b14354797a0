// Updates a subtree in place to match another one, so that focus, selection, input and open <details> are preserved.
// Elements match by id, elements without an id by position and tag name.

export function morph(old, updated) {
  if (old.nodeType !== updated.nodeType || old.nodeName !== updated.nodeName) return old.replaceWith(updated);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== updated.data) old.data = updated.data;
    return;
  }
  for (const { name } of [...(old.attributes ?? [])]) {
    if (!updated.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of updated.attributes ?? []) {
    if (old.getAttribute(name) !== value && name !== "open") old.setAttribute(name, value);
  }
  if (old.dataset?.keep !== undefined) return; // the script sets its content
  morphChildren(old, updated);
}

export function morphChildren(old, updated) {
  const oldById = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  const newIds = new Set([...updated.children].map((child) => child.id).filter(Boolean));
  let at = old.firstChild;
  const removeStale = () => {
    while (at?.id && !newIds.has(at.id)) {
      const stale = at;
      at = at.nextSibling;
      stale.remove();
    }
  };
  for (const node of [...updated.childNodes]) {
    removeStale();
    const match = node.id ? oldById.get(node.id) : at && !at.id && at.nodeName === node.nodeName ? at : null;
    if (!match) {
      old.insertBefore(node, at);
      continue;
    }
    if (match === at) at = at.nextSibling;
    else old.insertBefore(match, at);
    morph(match, node);
  }
  while (at) {
    const stale = at;
    at = at.nextSibling;
    stale.remove();
  }
}
