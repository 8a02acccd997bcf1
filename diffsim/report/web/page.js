// The page's own code: tables that sort, and replays drawn with three.js (global THREE).
"use strict";

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // what is missing stays last
      const found = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return up ? found : -found;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
  }));
}

// Index of the last of the sorted times that is not after t.
function before(times, t) {
  let low = 0, high = times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= t) low = middle; else high = middle - 1;
  }
  return low;
}

function replay(box) {
  const film = JSON.parse(box.querySelector("script").textContent);
  const stage = box.querySelector(".stage"), $ = (name) => box.querySelector(name);
  const vector = (x) => new THREE.Vector3(...x);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const ink = color("--ink"), faint = color("--faint"), orange = "#e69f00", sky = "#56b4e9";
  const renderer = new THREE.WebGLRenderer({ antialias: true });
  renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
  stage.append(renderer.domElement);
  const scene = new THREE.Scene();
  scene.background = new THREE.Color(color("--stage"));
  scene.add(new THREE.HemisphereLight("#ffffff", "#d0d0d0", 3.2));
  const camera = new THREE.PerspectiveCamera(40, 1, 0.01, 500);
  camera.up.set(0, 0, 1);
  const controls = new THREE.OrbitControls(camera, renderer.domElement);

  const [low, high] = film.bounds.map(vector);
  const corners = [low, high].flatMap((a) => [low, high].flatMap((b) => [low, high].map((c) =>
    new THREE.Vector3(a.x, b.y, c.z))));
  function resize() {
    renderer.setSize(stage.clientWidth, stage.clientHeight);
    camera.aspect = stage.clientWidth / stage.clientHeight;
    camera.updateProjectionMatrix();
    stale = true;
  }
  function look(x, y, z) { // from there, as near as all corners are in the picture
    const away = new THREE.Vector3(x, y, z).normalize(), axis = new THREE.Vector3();
    let far = 2 * high.distanceTo(low);
    controls.target.copy(low).lerp(high, 0.5);
    for (let i = 0; i < 12; i++) {
      camera.position.copy(controls.target).addScaledVector(away, far);
      camera.lookAt(controls.target);
      camera.updateMatrixWorld();
      const seen = corners.map((corner) => corner.clone().project(camera));
      const tall = far * Math.tan(camera.fov / 2 * Math.PI / 180);
      const [across, up] = ["x", "y"].map((name, column) => {
        const [least, most] = [Math.min, Math.max].map((end) => end(...seen.map((p) => p[name])));
        const half = column ? tall : tall * camera.aspect;
        axis.setFromMatrixColumn(camera.matrixWorld, column);
        controls.target.addScaledVector(axis, half * (least + most) / 2);
        return (most - least) / 2;
      });
      far *= 0.5 + 0.5 * Math.max(across, up) / 0.95; // half the way: nearer ones grow faster
    }
    camera.position.copy(controls.target).addScaledVector(away, far);
    controls.update();
  }

  function patch(shape, alpha) { // a flat outline, filled and edged, in its own frame
    const points = shape.outline.map(([x, y]) => new THREE.Vector2(x, y));
    const group = new THREE.Group();
    group.add(new THREE.Mesh(
      new THREE.ShapeGeometry(new THREE.Shape(points)),
      new THREE.MeshBasicMaterial({ color: shape.color, transparent: true, opacity: alpha,
        side: THREE.DoubleSide, depthWrite: false })));
    group.add(new THREE.LineLoop(new THREE.BufferGeometry().setFromPoints(points),
      new THREE.LineBasicMaterial({ color: shape.color })));
    scene.add(group);
    return group;
  }
  function dots(settings) { // how points are drawn: round, of one size near and far
    const material = new THREE.PointsMaterial({ sizeAttenuation: false, ...settings });
    material.onBeforeCompile = (shader) => {
      shader.fragmentShader = shader.fragmentShader.replace("void main() {",
        "void main() { if (distance(gl_PointCoord, vec2(0.5)) > 0.5) discard;");
    };
    return material;
  }
  for (const shape of film.fixed) {
    const drawn = patch(shape, 0.18);
    drawn.position.set(...shape.pose.slice(0, 3));
    drawn.quaternion.set(...shape.pose.slice(3));
  }
  const paddles = film.driven.map((shape) => patch(shape, 0.55));

  const points = new THREE.BufferGeometry().setFromPoints(film.landings.map((l) => vector(l.at)));
  points.setAttribute("color", new THREE.Float32BufferAttribute(
    film.landings.flatMap((l) => new THREE.Color(l.color).toArray()), 3));
  const cloud = new THREE.Points(points, dots({ size: 4, vertexColors: true }));
  scene.add(cloud);
  const cross = 0.06;
  for (const [x, y, z] of film.targets) {
    const ends = [[-1, -1], [1, 1], [-1, 1], [1, -1]].map(([a, b]) =>
      new THREE.Vector3(x + a * cross, y + b * cross, z + 0.003));
    scene.add(new THREE.LineSegments(new THREE.BufferGeometry().setFromPoints(ends),
      new THREE.LineBasicMaterial({ color: ink })));
    const ring = new THREE.Mesh(new THREE.RingGeometry(cross * 0.9, cross, 48),
      new THREE.MeshBasicMaterial({ color: ink, side: THREE.DoubleSide }));
    ring.position.set(x, y, z + 0.003);
    scene.add(ring);
  }

  const ball = new THREE.Mesh(new THREE.SphereGeometry(film.radius, 32, 16),
    new THREE.MeshStandardMaterial({ color: orange, roughness: 0.5 }));
  const axis = new THREE.ArrowHelper(new THREE.Vector3(0, 0, 1), new THREE.Vector3(), 1, sky);
  const trail = new THREE.Points(new THREE.BufferGeometry(),
    dots({ size: 5, vertexColors: true }));
  const whole = new THREE.Line(new THREE.BufferGeometry(),
    new THREE.LineBasicMaterial({ color: faint }));
  const arm = new THREE.Line(new THREE.BufferGeometry(),
    new THREE.LineBasicMaterial({ color: ink }));
  const joints = new THREE.Points(arm.geometry,
    dots({ color: ink, size: 9 }));
  scene.add(ball, axis, trail, whole, arm, joints);
  for (const drawn of [trail, whole, arm, joints]) drawn.frustumCulled = false;
  const marks = new THREE.Group(), dot = new THREE.SphereGeometry(film.radius * 0.7, 16, 8);
  scene.add(marks);

  let rally, time = 0, playing = false, last = 0, stale = true;
  controls.addEventListener("change", () => { stale = true; });
  const mix = (a, b, u) => a.map((x, i) => x + u * (b[i] - x));
  function between(times, t) { // the two rows around t, and how far between them
    const k = before(times, t), n = Math.min(k + 1, times.length - 1);
    return [k, n, n > k ? Math.min(1, (t - times[k]) / (times[n] - times[k])) : 0];
  }
  function choose(number) {
    rally = film.rallies[number];
    marks.clear();
    for (const hit of rally.hits) {
      const mark = new THREE.Mesh(dot, new THREE.MeshBasicMaterial({ color: hit.color }));
      mark.position.set(...hit.at);
      marks.add(mark);
    }
    whole.geometry.setFromPoints(rally.ball.map(vector));
    $(".scrub").max = rally.time[rally.time.length - 1];
    box.dataset.rally = number;
    seek(0);
  }
  function seek(t) {
    const end = rally.time[rally.time.length - 1];
    time = Math.max(0, Math.min(end, t));
    const [k, n, u] = between(rally.time, time);
    const at = vector(mix(rally.ball[k], rally.ball[n], u));
    ball.position.copy(at);
    const spin = vector(rally.spin[k]), rate = spin.length();
    axis.visible = rate > 0.1;
    if (axis.visible) {
      axis.position.copy(at);
      axis.setDirection(spin.clone().normalize());
      axis.setLength(0.06 + rate * 0.0012, 0.03, 0.018);
    }
    const past = [at];
    for (let i = k; i >= 0 && rally.time[i] >= time - 0.3; i--) past.push(vector(rally.ball[i]));
    const pale = new THREE.Color(faint), dark = new THREE.Color(ink);
    trail.geometry.dispose();
    trail.geometry = new THREE.BufferGeometry().setFromPoints(past);
    trail.geometry.setAttribute("color", new THREE.Float32BufferAttribute(
      past.flatMap((_, i) => dark.clone().lerp(pale, i / past.length).toArray()), 3));
    marks.children.forEach((mark, i) => { mark.visible = rally.hits[i].time <= time; });
    box.dataset.hits = rally.hits.filter((hit) => hit.time <= time).length;
    paddles.forEach((drawn, i) => {
      const poses = rally.paddles[i];
      drawn.visible = Boolean(poses);
      if (!poses) return;
      const [a, b, v] = between(rally.frames, time);
      drawn.position.set(...mix(poses[a].slice(0, 3), poses[b].slice(0, 3), v));
      drawn.quaternion.set(...poses[a].slice(3)).slerp(
        new THREE.Quaternion(...poses[b].slice(3)), v);
    });
    arm.visible = joints.visible = Boolean(rally.links);
    if (rally.links) {
      const [a, b, v] = between(rally.frames, time);
      arm.geometry.setFromPoints(rally.links[a].map((p, i) => vector(mix(p, rally.links[b][i], v))));
    }
    stale = true;
    $(".scrub").value = time;
    $(".clock").textContent = `t = ${time.toFixed(3)} s of ${end.toFixed(2)}`;
    box.dataset.time = time;
    box.dataset.ball = at.toArray().map((x) => x.toFixed(4)).join(" ");
  }
  function run(on) {
    playing = on;
    $(".play").textContent = on ? "pause" : "play";
    box.dataset.playing = on;
  }

  film.rallies.forEach((each, i) => $(".rally").append(new Option(each.name, i)));
  $(".rally").hidden = film.rallies.length < 2;
  $(".rally").addEventListener("change", (event) => choose(Number(event.target.value)));
  $(".play").addEventListener("click", () => {
    if (!playing && time >= rally.time[rally.time.length - 1]) seek(0);
    run(!playing);
  });
  $(".scrub").addEventListener("input", (event) => { run(false); seek(Number(event.target.value)); });
  $(".view").addEventListener("change", (event) => look(...event.target.value.split(" ").map(Number)));
  const shown = $(".cloud");
  shown.parentElement.hidden = film.landings.length === 0;
  shown.addEventListener("change", () => { cloud.visible = shown.checked; stale = true; });
  const moving = [["ball", orange], ["spin axis", sky]];
  if (film.targets.length) moving.push(["target", ink]);
  for (const [name, color] of [...film.key, ...moving]) {
    const line = document.createElement("div"), dot = document.createElement("i");
    dot.style.background = color;
    line.append(dot, name);
    $(".key").append(line);
  }

  resize();
  look(0.35, -0.85, 0.45);
  new ResizeObserver(resize).observe(stage);
  renderer.setAnimationLoop((now) => {
    if (playing) {
      seek(time + (now - last) / 1000 * Number($(".speed").value));
      if (time >= rally.time[rally.time.length - 1]) run(false);
    }
    last = now;
    controls.update();
    if (stale) renderer.render(scene, camera); // nothing is drawn while nothing moves
    stale = false;
  });
  run(false);
  choose(0);
}

for (const box of document.querySelectorAll(".replay")) {
  try {
    replay(box);
  } catch (error) { // a browser without WebGL still shows the rest of the page
    box.querySelector(".stage").innerHTML = '<p class="fault"></p>';
    box.querySelector(".fault").textContent = `no replay: ${error.message}`;
  }
}
