// What the page uses of three.js. To make three.js from it, in a folder with `npm install three
// esbuild`:  npx esbuild three.entry.js --bundle --minify --format=iife --global-name=THREE
//   --legal-comments=none --outfile=three.js
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
export {
  ArrowHelper, BufferGeometry, Color, DoubleSide, Float32BufferAttribute, Group, HemisphereLight,
  Line, LineBasicMaterial, LineLoop, LineSegments, Mesh, MeshBasicMaterial, MeshStandardMaterial,
  PerspectiveCamera, Points, PointsMaterial, Quaternion, RingGeometry, Scene, Shape, ShapeGeometry,
  SphereGeometry, Vector2, Vector3, WebGLRenderer,
} from "three";
