// Draws points, triangles and lines of the world frame (Z down into the water) from above the water.
"use strict";

const canvas = document.getElementById("canvas");
const picture = document.getElementById("image");
const state = document.getElementById("state");
const gl = canvas.getContext("webgl2", { antialias: true });

const VERTEX = `#version 300 es
in vec3 position; in vec4 color;
uniform mat4 matrix; uniform vec3 origin; uniform float stretch, size;
out vec4 shade; out vec3 place;
void main() {
  place = (position - origin) * vec3(1.0, 1.0, stretch);
  gl_Position = matrix * vec4(place, 1.0);
  gl_PointSize = size;
  shade = color;
}`;
// Triangles are lit by the slope of the surface itself, so that relief shows where texture does not.
const FRAGMENT = `#version 300 es
precision highp float;
in vec4 shade; in vec3 place;
uniform bool lit;
out vec4 pixel;
void main() {
  float light = 1.0;
  if (lit) {
    vec3 normal = normalize(cross(dFdx(place), dFdy(place)));
    light = 0.45 + 0.55 * abs(dot(normal, normalize(vec3(0.5, 0.4, -0.8))));
  }
  pixel = vec4(shade.rgb * light, 1.0);
}`;

let program;
const camera = { turn: 0.6, tilt: 0.9, distance: 1, x: 0, y: 0 };
let shown = null;
let rig = null;

function compile(kind, source) {
  const shader = gl.createShader(kind);
  gl.shaderSource(shader, source);
  gl.compileShader(shader);
  if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
  return shader;
}

function start() {
  if (!gl) {
    state.textContent = "This browser has no WebGL 2.";
    return;
  }
  program = gl.createProgram();
  gl.attachShader(program, compile(gl.VERTEX_SHADER, VERTEX));
  gl.attachShader(program, compile(gl.FRAGMENT_SHADER, FRAGMENT));
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.enable(gl.DEPTH_TEST);
  list();
}

async function list() {
  const found = await (await fetch("/files")).json();
  const place = document.getElementById("files");
  let folder = null;
  for (const name of found.files) {
    const parts = name.split("/");
    const file = parts.pop();
    if (parts.join("/") !== folder) {
      folder = parts.join("/");
      const title = document.createElement("h2");
      title.textContent = folder || ".";
      place.append(title);
    }
    const button = document.createElement("button");
    button.textContent = file;
    button.dataset.file = name;
    button.onclick = () => show(button);
    place.append(button);
  }
  if (!found.files.length) state.textContent = "There is nothing to show in this folder yet.";
  if (found.rig) {
    const box = document.getElementById("rig");
    box.hidden = document.getElementById("rig-label").hidden = false;
    box.onchange = async () => {
      release(rig);
      rig = box.checked ? upload(await message("/rig")) : null;
      if (rig && !shown) look(rig);
      draw();
    };
  }
  const wanted = decodeURIComponent(location.hash.slice(1));
  const first = [...place.querySelectorAll("button")].find((b) => b.dataset.file === wanted);
  if (first) show(first);
}

async function message(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(await answer.text());
  const data = await answer.arrayBuffer();
  const length = new DataView(data).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const positions = 4 + length, colors = positions + 12 * head.vertices;
  head.positions = new Float32Array(data, positions, 3 * head.vertices);
  head.colors = new Uint8Array(data, colors, 4 * head.vertices);
  head.faces = new Uint32Array(data, colors + 4 * head.vertices, head.indices);
  return head;
}

function upload(head) {
  const vao = gl.createVertexArray(), buffers = [];
  gl.bindVertexArray(vao);
  for (const [name, values, count, kind] of [
    ["position", head.positions, 3, gl.FLOAT], ["color", head.colors, 4, gl.UNSIGNED_BYTE],
  ]) {
    buffers.push(gl.createBuffer());
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers.at(-1));
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    const place = gl.getAttribLocation(program, name);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, count, kind, kind === gl.UNSIGNED_BYTE, 0, 0);
  }
  if (head.indices) {
    buffers.push(gl.createBuffer());
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers.at(-1));
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, head.faces, gl.STATIC_DRAW);
  }
  gl.bindVertexArray(null);
  const { kind, vertices, indices, total, low, high } = head;
  return { kind, vertices, indices, total, low, high, vao, buffers };
}

function release(part) {
  if (!part) return;
  gl.deleteVertexArray(part.vao);
  part.buffers.forEach((buffer) => gl.deleteBuffer(buffer));
}

async function show(button) {
  const name = button.dataset.file;
  for (const other of document.querySelectorAll("nav button")) other.setAttribute("aria-pressed", other === button);
  state.textContent = `loading ${name} …`;
  picture.hidden = !name.endsWith(".png");
  canvas.hidden = !picture.hidden;
  if (!picture.hidden) {
    picture.src = `/image?file=${encodeURIComponent(name)}`;
    picture.alt = state.textContent = name;
    return;
  }
  try {
    const head = await message(`/geometry?file=${encodeURIComponent(name)}`);
    release(shown);
    shown = upload(head);
    const size = shown.high.map((value, axis) => (value - shown.low[axis]).toFixed(2));
    state.textContent = `${name}: ${shown.total.toLocaleString("en")} ${shown.kind}, ${size.join(" × ")} m`;
    look(shown);
    draw();
  } catch (error) {
    state.textContent = error.message;
  }
}

function look(part) {
  camera.origin = part.low.map((value, axis) => (value + part.high[axis]) / 2);
  camera.span = Math.hypot(...part.high.map((value, axis) => value - part.low[axis])) || 1;
  Object.assign(camera, { distance: 1.3 * camera.span, x: 0, y: 0 });
}

// Column-major product of 4 x 4 matrices.
function times(a, b) {
  const c = new Float32Array(16);
  for (let i = 0; i < 4; i++) for (let j = 0; j < 4; j++) {
    for (let k = 0; k < 4; k++) c[4 * j + i] += a[4 * k + i] * b[4 * j + k];
  }
  return c;
}

function matrix() {
  const near = camera.distance / 100, far = camera.distance + 10 * camera.span, f = 1.8;
  const aspect = canvas.width / canvas.height;
  const lens = [f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0,
    (2 * far * near) / (near - far), 0];
  const away = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, camera.x, camera.y, -camera.distance, 1];
  const [c, s, ct, st] = [Math.cos(camera.tilt), Math.sin(camera.tilt), Math.cos(camera.turn), Math.sin(camera.turn)];
  const tilt = [1, 0, 0, 0, 0, c, -s, 0, 0, s, c, 0, 0, 0, 0, 1];
  const turn = [ct, st, 0, 0, -st, ct, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
  const up = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1]; // Z down to Z up, handedness kept
  return times(lens, times(away, times(tilt, times(turn, up))));
}

function draw() {
  const ratio = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  gl.viewport(0, 0, canvas.width, canvas.height);
  gl.clearColor(0.063, 0.094, 0.118, 1);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  if (!camera.origin) return;
  const uniform = (name) => gl.getUniformLocation(program, name);
  gl.uniformMatrix4fv(uniform("matrix"), false, matrix());
  gl.uniform3fv(uniform("origin"), camera.origin);
  gl.uniform1f(uniform("stretch"), Number(document.getElementById("stretch").value));
  gl.uniform1f(uniform("size"), Number(document.getElementById("size").value) * ratio);
  for (const part of [shown, rig]) {
    if (!part) continue;
    gl.uniform1i(uniform("lit"), part.kind === "triangles");
    gl.bindVertexArray(part.vao);
    if (part.kind === "points") gl.drawArrays(gl.POINTS, 0, part.vertices);
    else gl.drawElements(part.kind === "lines" ? gl.LINES : gl.TRIANGLES, part.indices, gl.UNSIGNED_INT, 0);
  }
  gl.bindVertexArray(null);
}

let held = null;
canvas.onpointerdown = (event) => {
  held = [event.clientX, event.clientY];
  canvas.setPointerCapture(event.pointerId);
};
canvas.onpointerup = () => (held = null);
canvas.onpointermove = (event) => {
  if (!held) return;
  const [dx, dy] = [event.clientX - held[0], event.clientY - held[1]];
  held = [event.clientX, event.clientY];
  if (event.shiftKey) {
    camera.x += (dx / canvas.clientHeight) * camera.distance;
    camera.y -= (dy / canvas.clientHeight) * camera.distance;
  } else {
    camera.turn += dx / 150;
    camera.tilt = Math.min(Math.PI, Math.max(0, camera.tilt + dy / 150));
  }
  draw();
};
canvas.onwheel = (event) => {
  event.preventDefault();
  camera.distance *= Math.exp(event.deltaY / 800);
  draw();
};
for (const name of ["size", "stretch"]) document.getElementById(name).oninput = draw;
addEventListener("resize", draw);
start();
