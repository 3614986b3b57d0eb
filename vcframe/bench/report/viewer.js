// Two versions of one picture on top of each other: an edge to slide, a button to flip, one zoom for both.
"use strict";

function makeViewer(views) {
  const by = (id) => document.getElementById(id);
  const stage = by("stage"), edge = by("view-edge"), zoom = by("view-zoom"), flip = by("view-flip");
  const sides = [by("view-left"), by("view-right")];
  const layers = [element("div", { class: "layer" }), element("div", { class: "layer" })];
  const images = layers.map((layer) => layer.appendChild(element("img", { alt: "" })));
  const divider = element("div", { class: "divider" });
  // The middle of what is seen, in parts of the picture.
  let centre = [0.5, 0.5], drag = null;
  by("view").hidden = false;
  stage.append(...layers, divider);

  views.forEach((view, i) => by("view-picture").append(element("option", { value: i }, view.title)));
  const view = () => views[by("view-picture").value];
  const flipped = () => flip.getAttribute("aria-pressed") === "true";

  function choosePicture() {
    const chosen = sides.map((side) => side.selectedIndex);
    sides.forEach((side, i) => {
      side.replaceChildren(...view().versions.map((version, n) => element("option", { value: n }, version.name)));
      side.selectedIndex = chosen[i] < 0 ? view().versions.length - 2 + i : chosen[i];
    });
    stage.style.aspectRatio = `${view().width} / ${view().height}`;
    stage.style.width = edge.parentElement.style.width = `${view().width}px`;
    chooseVersions();
  }

  function chooseVersions() {
    by("view-captions").replaceChildren();
    sides.forEach((side, i) => {
      const version = view().versions[side.value];
      images[i].src = version.source;
      images[i].alt = `${version.name}: ${version.caption}`;
      by("view-captions").append(element("div", {}, element("dt", {}, version.name), element("dd", {}, version.caption)));
    });
    place();
  }

  function place() {
    const factor = Number(zoom.value), half = 0.5 / factor;
    centre = centre.map((c) => Math.min(1 - half, Math.max(half, c)));
    const shift = centre.map((c) => `${-100 * (c - half) * factor}%`);
    for (const image of images) image.style.transform = `translate(${shift.join(",")}) scale(${factor})`;
    stage.classList.toggle("near", factor >= 3);
    // The left version is on top, as far as the edge; flipped, the other one is all there is.
    const share = flipped() ? 0 : edge.value;
    layers[1].style.clipPath = `inset(0 0 0 ${share}%)`;
    layers[0].style.clipPath = `inset(0 ${100 - share}% 0 0)`;
    divider.style.left = `${share}%`;
    divider.hidden = flipped();
  }

  function toggle() {
    const pressed = !flipped();
    flip.setAttribute("aria-pressed", pressed);
    // From a slide to a flip: the whole left version first.
    edge.value = 100;
    place();
  }

  by("view-picture").addEventListener("change", () => { centre = [0.5, 0.5]; choosePicture(); });
  sides.forEach((side) => side.addEventListener("change", chooseVersions));
  edge.addEventListener("input", () => { flip.setAttribute("aria-pressed", false); place(); });
  zoom.addEventListener("input", place);
  flip.addEventListener("click", toggle);

  const moveEdge = (event) => {
    const area = stage.getBoundingClientRect();
    edge.value = 100 * (event.clientX - area.left) / area.width;
    flip.setAttribute("aria-pressed", false);
  };
  stage.addEventListener("pointerdown", (event) => {
    const area = stage.getBoundingClientRect();
    const near = Math.abs(event.clientX - area.left - area.width * edge.value / 100) < 24;
    drag = zoom.value > 1 && !near ? [event.clientX, event.clientY] : "edge";
    stage.setPointerCapture(event.pointerId);
    if (drag === "edge") { moveEdge(event); place(); }
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (drag === "edge") moveEdge(event);
    else {
      const area = stage.getBoundingClientRect();
      centre = [centre[0] - (event.clientX - drag[0]) / area.width / zoom.value, centre[1] - (event.clientY - drag[1]) / area.height / zoom.value];
      drag = [event.clientX, event.clientY];
    }
    place();
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { drag = null; });
  stage.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -2, ArrowRight: 2 }[event.key];
    if (step) { edge.value = Number(edge.value) + step; flip.setAttribute("aria-pressed", false); place(); }
    else if (event.key === "f" || event.key === "F") toggle();
    else if (event.key === "+" || event.key === "-") { zoom.value = Number(zoom.value) + (event.key === "+" ? 1 : -1); place(); }
    else return;
    event.preventDefault();
  });
  choosePicture();
}
