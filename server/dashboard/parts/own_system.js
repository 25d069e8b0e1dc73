// Initial conditions of one's own: a file that is sent from here, or one that was sent before.
import { all, send } from "../api.js";
import { html, useState } from "../html.js";
import { useLoaded } from "../load.js";
import { Failure, Select } from "./pieces.js";

const KINDS = ".npy,.npz,.txt,.csv,.tsv,.dat,.h5,.hdf5,.bin,.sa";

/** Calls `take` with the fields of a config that begins with the file. */
export function OwnSystem({ take }) {
  const [state, setState] = useState({ said: "", error: null });
  const before = useLoaded(() => all("/v1/files"), [state.said]);
  const choose = (file) => {
    take({ initial_conditions: "file", ic_path: file.path });
    setState({ said: `${file.name}: ${file.num_particles} bodies in ${file.dim} dimensions`, error: null });
  };
  const sendIt = async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    setState({ said: `${file.name} is sent …`, error: null });
    try {
      choose(await send("/v1/files", { name: file.name }, file));
    } catch (error) {
      setState({ said: "", error });
    }
    event.target.value = "";
  };
  const files = before.data ?? [];
  return html`<div class="row"><label>Send a file, rows m x y (z) vx vy (vz) <input type="file" accept=${KINDS} onChange=${sendIt} /></label>
    ${files.length > 0 && html`<${Select} label="or take one that was sent" value="" none="choose one" choices=${files.map((file) => [file.id, `${file.name} (${file.num_particles} bodies)`])}
      take=${(id) => choose(files.find((file) => file.id === id))} />`}</div>
    <p role="status">${state.said}</p><${Failure} error=${state.error ?? before.error} />`;
}
