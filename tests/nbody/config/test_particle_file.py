"""Initial-condition files: four formats, and what a hostile one may not do."""

import io
import os
import pickle
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbody.config import Config
from nbody.config.particle_file import read_particles
from nbody.errors import InvalidInitialConditions
from nbody.initial_conditions.from_config import initial_particle
from nbody.simulation.run import simulate

ROWS = [[3.0, 1.0, 3.0, 0.0, 0.1], [4.0, -2.0, -1.0, 0.2, 0.0], [5.0, 1.0, -1.0, 0.0, 0.0]]
ROWS_3D = [[1.0, 1, 2, 3, 4, 5, 6], [2.0, -1, 0, 0, 0, 0, 1]]


class Marker:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def header(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    """The head of an npy file that promises an array of this shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def write(path: Path, rows: list[list[float]]) -> Path:
    table = np.array(rows)
    match path.suffix:
        case ".npy":
            np.save(path, table)
        case ".npz":
            np.savez_compressed(path, particles=table)
        case ".csv":
            np.savetxt(path, table, delimiter=",", fmt="%.17g")
        case _:
            np.savetxt(path, table, fmt="%.17g")
    return path


@pytest.mark.parametrize("rows", [ROWS, ROWS_3D], ids=["planar", "spatial"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".txt"])
def test_every_format_gives_the_rows_that_were_written(
    tmp_path: Path, suffix: str, rows: list[list[float]]
) -> None:
    assert read_particles(write(tmp_path / f"start{suffix}", rows)) == rows


def test_a_text_file_may_have_comments(tmp_path: Path) -> None:
    path = tmp_path / "start.txt"
    path.write_text("# m x y vx vy\n1 0 1 2 3\n\n1 0 -1 -2 -3  # the other\n")
    assert read_particles(path) == [[1, 0, 1, 2, 3], [1, 0, -1, -2, -3]]


def test_a_pickle_in_an_npy_file_is_never_opened(tmp_path: Path) -> None:
    path, proof = tmp_path / "start.npy", tmp_path / "proof"
    payload = np.array([Marker(proof)], dtype=object)
    np.save(path, payload, allow_pickle=True)
    with pytest.raises(InvalidInitialConditions):
        read_particles(path)
    path.write_bytes(pickle.dumps(Marker(proof)))
    with pytest.raises(InvalidInitialConditions):
        read_particles(path)
    np.savez(tmp_path / "start.npz", particles=payload)
    with pytest.raises(InvalidInitialConditions):
        read_particles(tmp_path / "start.npz")
    assert not proof.exists()


@pytest.mark.parametrize("shape", [(10**9, 7), (2, 5)], ids=["a huge table", "one row missing"])
def test_a_header_that_promises_more_than_the_file_has_is_refused(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    path = tmp_path / "start.npy"
    path.write_bytes(header(shape) + np.ones((1, 5)).tobytes())
    tracemalloc.start()
    with pytest.raises(InvalidInitialConditions):
        read_particles(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.slow
@pytest.mark.parametrize("honest", [True, False])
def test_an_npz_that_unpacks_to_a_thousand_times_its_size_is_refused(
    tmp_path: Path, honest: bool
) -> None:
    path, size = tmp_path / "start.npz", 2**27
    shape = (size // 56, 7) if honest else (2, 7)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("particles.npy", header(shape) + bytes(size))
    assert path.stat().st_size < 2**18
    tracemalloc.start()
    with pytest.raises(InvalidInitialConditions):
        read_particles(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**25


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_a_file_of_too_many_particles_is_refused(tmp_path: Path, suffix: str) -> None:
    rows = np.ones((16385, 5))
    path = tmp_path / f"start{suffix}"
    np.save(path, rows) if suffix == ".npy" else np.savetxt(path, rows, delimiter=",", fmt="%g")
    with pytest.raises(InvalidInitialConditions):
        read_particles(path)


def test_a_file_too_large_to_be_read_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "start.txt"
    with path.open("wb") as stream:
        stream.truncate(2**33)
    with pytest.raises(InvalidInitialConditions):
        read_particles(path)


@pytest.mark.parametrize(
    "table",
    [
        np.ones((3, 4)),
        np.ones((3, 6)),
        np.ones((3, 8)),
        np.ones(5),
        np.ones((2, 3, 5)),
        np.ones((1, 5)),
        np.ones((0, 5)),
        np.array([[1, 0, 0, 0, np.nan], [1, 1, 1, 1, 1]]),
        np.array([[1, 0, 0, np.inf, 0], [1, 1, 1, 1, 1]]),
        np.array([[0.0, 0, 0, 0, 0], [0, 1, 1, 1, 1]]),
        np.array([[-1.0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]),
        np.ones((2, 5), dtype=complex),
        np.full((2, 5), "one"),
    ],
    ids=[
        "4 columns", "6 columns", "8 columns", "1 axis", "3 axes", "1 particle", "no particle",
        "nan", "infinity", "all massless", "negative mass", "complex", "text",
    ],
)  # fmt: skip
def test_what_is_no_table_of_particles_is_refused(tmp_path: Path, table: np.ndarray) -> None:
    np.save(tmp_path / "start.npy", table)
    config = Config(initial_conditions="file", ic_path="start.npy")
    with pytest.raises(InvalidInitialConditions):
        initial_particle(config, data_folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("start.csv", b"1,2,3,4,5\n1,2,3\n"),
        ("start.txt", b"one two three four five\n1 2 3 4 5"),
        ("start.txt", b""),
        ("start.npy", b""),
        ("start.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': broken"),
        ("start.npz", b"PK\x03\x04 not really"),
        ("start.txt", b"\xff\xfe\x00\x81"),
        ("start.pkl", pickle.dumps(ROWS)),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInitialConditions):
        read_particles(tmp_path / name)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    for name in ("missing.npy", "folder.npy"):
        with pytest.raises(InvalidInitialConditions):
            read_particles(tmp_path / name)


def test_a_config_reads_its_file_from_the_data_folder(tmp_path: Path) -> None:
    rows = [[1.0, 1.0, 0.0, 0.0, 0.5], [1.0, -1.0, 0.0, 0.0, -0.5]]
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine" / "start.csv", rows)
    config = Config(initial_conditions="file", ic_path="mine/start.csv")
    particle = initial_particle(config, data_folder=tmp_path)
    assert particle.position.tolist() == [row[1:3] for row in rows]
    assert particle.mass.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("path", ["../out.csv", "/etc/passwd", "a/../../out.csv", "..\\out.csv"])
def test_a_path_that_names_a_place_outside_the_data_folder_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="ic_path"):
        Config(initial_conditions="file", ic_path=path)


def test_a_link_does_not_lead_out_of_the_data_folder(tmp_path: Path) -> None:
    outside, data = tmp_path / "outside", tmp_path / "data"
    outside.mkdir()
    data.mkdir()
    write(outside / "start.csv", ROWS)
    (data / "link").symlink_to(outside)
    config = Config(initial_conditions="file", ic_path="link/start.csv")
    with pytest.raises(InvalidInitialConditions):
        initial_particle(config, data_folder=data)


CSV = "\ufeffm,x,y,vx,vy\r\n3,1,3,0,0.1\r\n4,-2,-1,0.2,0\r\n5,1,-1,0,0\r\n"
TEXTS = {
    "a header and a byte-order mark": CSV,
    "names in another order": "vx vy m x y\n0 0.1 3 1 3\n0.2 0 4 -2 -1\n0 0 5 1 -1\n",
    "names with units, and an id": "id;mass [Msun];x (AU);y (AU);vx;vy\n"
    "1;3;1;3;0;0.1\n2;4;-2;-1;0.2;0\n3;5;1;-1;0;0\n",
    "tabs": "3\t1\t3\t0\t0.1\n4\t-2\t-1\t0.2\t0\n5\t1\t-1\t0\t0\n",
    "commas in a text file": "3, 1, 3, 0, 0.1\n4, -2, -1, 0.2, 0\n5, 1, -1, 0, 0\n",
    "Fortran's exponents": "3.0D+00 1D0 3d0 0 1.0D-01\n4 -2 -1 2.d-1 0\n5 1 -1 0 0\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_table_is_read_as_people_write_it(tmp_path: Path, text: str) -> None:
    for suffix in (".txt", ".csv", ".dat"):
        path = tmp_path / f"start{suffix}"
        path.write_bytes(text.encode())
        assert read_particles(path) == ROWS


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 2 3 4 5\n1 2 three 4 5\n", "line 2, column 3: expected a number"),
        ("1 2 3 4 5\n1 2 3 4\n", "line 2: 4 columns, not 5"),
        ("m x y vx\n1 2 3 4\n1 2 3 5\n", "no vy"),
        ("secret words\n", "line 1: neither numbers nor the names"),
    ],
)
def test_what_is_wrong_in_a_table_is_told_by_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "start.txt"
    path.write_text(text)
    with pytest.raises(InvalidInitialConditions, match=told) as caught:
        read_particles(path)
    assert "three" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_arrays_have_the_names_that_programs_give_them(tmp_path: Path) -> None:
    table = np.array(ROWS_3D)
    m, x, v = table[:, 0], table[:, 1:4], table[:, 4:]
    np.savez(tmp_path / "a.npz", masses=m, pos=x, vel=v)
    np.savez(
        tmp_path / "b.npz",
        m=m,
        **dict(zip("xyz", x.T, strict=True)),
        vx=v[:, 0],
        vy=v[:, 1],
        vz=v[:, 2],
    )
    np.savez(tmp_path / "c.npz", time=[0.0, 1.0], position=[0 * x, x], velocity=[v, v], mass=m)
    for name in "abc":
        assert read_particles(tmp_path / f"{name}.npz") == ROWS_3D
    np.savez(tmp_path / "d.npz", mass=m, position=x)
    with pytest.raises(InvalidInitialConditions, match="velocity"):
        read_particles(tmp_path / "d.npz")


def test_a_run_goes_on_from_its_own_output(tmp_path: Path) -> None:
    given = {"device": "cpu", "integrator_mode": "fixed", "dt": 0.03125}
    first = Config.model_validate({"initial_conditions": "pythagorean", "duration": 1.0} | given)
    whole = Config.model_validate({"initial_conditions": "pythagorean", "duration": 2.0} | given)
    for suffix in (".npz", ".h5"):
        half = simulate(first, initial_particle(first))
        half.save(tmp_path / f"half{suffix}")
        second = Config.model_validate(
            {"initial_conditions": "file", "ic_path": f"half{suffix}", "duration": 1.0} | given
        )
        end = simulate(second, initial_particle(second, data_folder=tmp_path))
        expected = simulate(whole, initial_particle(whole))
        np.testing.assert_allclose(end.position[-1], expected.position[-1], atol=1e-12)


def test_a_run_goes_on_from_its_end_though_its_last_output_was_before(tmp_path: Path) -> None:
    given = {"initial_conditions": "pythagorean", "duration": 1.0, "device": "cpu", "eta": 0.05}
    whole = Config.model_validate(given)
    early = Config.model_validate(given | {"output_times": [0.25, 0.5]})
    for suffix in (".npz", ".h5"):
        simulate(early, initial_particle(early)).save(tmp_path / f"early{suffix}")
        rows = np.array(read_particles(tmp_path / f"early{suffix}"))
        end = simulate(whole, initial_particle(whole))
        np.testing.assert_array_equal(rows[:, 1:], np.hstack((end.position[-1], end.velocity[-1])))


def test_a_file_that_says_its_units_is_not_taken_for_others(tmp_path: Path) -> None:
    h5py, rebound = pytest.importorskip("h5py"), pytest.importorskip("rebound")
    sim = rebound.Simulation()
    sim.units = ("AU", "Msun", "yr")
    m, x, v = (np.array(ROWS_3D)[:, part] for part in (0, slice(1, 4), slice(4, 7)))
    for row in ROWS_3D:
        sim.add(**dict(zip(("m", "x", "y", "z", "vx", "vy", "vz"), row, strict=True)))
    sim.save_to_file(str(tmp_path / "a.bin"))
    np.savez(tmp_path / "a.npz", mass=m, position=x, velocity=v, G=sim.G)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["mass"], file["position"], file["velocity"] = m, x, v
        file.attrs["G"] = sim.G
    for name in ("a.bin", "a.npz", "a.h5"):
        given = {"initial_conditions": "file", "ic_path": name, "device": "cpu"}
        with pytest.raises(InvalidInitialConditions, match=r"39\.47"):
            initial_particle(Config.model_validate(given), data_folder=tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = Config.model_validate(given | {"G": "AU/Msun/yr"})
            assert initial_particle(config, data_folder=tmp_path).mass[0] > 39


def test_columns_of_an_archive_are_found_by_name_and_missed_by_name(tmp_path: Path) -> None:
    table = np.array(ROWS_3D)
    columns = dict(zip(("mass", "x", "y", "z", "vx", "vy", "vz"), table.T, strict=True))
    np.savez(tmp_path / "a.npz", **columns)
    assert read_particles(tmp_path / "a.npz") == ROWS_3D
    plane = {name: values for name, values in columns.items() if "z" not in name}
    np.savez(tmp_path / "b.npz", **plane)
    assert read_particles(tmp_path / "b.npz") == table[:, [0, 1, 2, 4, 5]].tolist()
    del columns["z"]
    np.savez(tmp_path / "c.npz", **columns)
    with pytest.raises(InvalidInitialConditions, match="has no z"):
        read_particles(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", **{**columns, "z": table[:1, 3]})
    with pytest.raises(InvalidInitialConditions, match="of one length"):
        read_particles(tmp_path / "d.npz")


def test_the_rows_of_a_file_are_doubted_as_those_of_a_config(tmp_path: Path) -> None:
    (tmp_path / "sun.txt").write_text("1 0 0 0 0\n3e-6 1 0 0 6.28\n", encoding="utf-8")
    given = {"initial_conditions": "file", "ic_path": "sun.txt", "device": "cpu"}
    with pytest.warns(UserWarning, match=r"sun.txt: .*set G=AU/Msun/yr"):
        particle = initial_particle(Config.model_validate(given), data_folder=tmp_path)
    config = Config.model_validate(given | {"steps": 2})
    assert "AU/Msun/yr" in simulate(config, particle).report()["warnings"][0]


def test_what_a_file_lacks_is_told(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "latin.txt").write_bytes(b"1 0 0 0 0\n# Schr\xf6dinger\n1 1 0 0 1\n")
    m, x, v = (np.array(ROWS_3D)[:, part] for part in (0, slice(1, 4), slice(4, 7)))
    np.savez(tmp_path / "one.npz", mass=m, position=x, velocity=v, G=[1.0])
    np.savez(tmp_path / "text.npz", mass=m, position=x, velocity=v, G="SI")
    np.savez(tmp_path / "none.npz", mass=m, position=x, velocity=v, G=0.0)
    for name, keys in (("still.h5", ("Coordinates",)), ("light.h5", ("Coordinates", "Velocities"))):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_group("PartType0")  # of which there are none
            group = file.create_group("PartType1")
            for key in keys:
                group[key] = x
    assert read_particles(tmp_path / "one.npz") == ROWS_3D
    for name, told in (
        ("latin.txt", "UTF-8"),
        ("text.npz", "its G is not one number"),
        ("none.npz", "its G is not one number"),
        ("still.h5", "PartType1: no Velocities"),
        ("light.h5", "no MassTable"),
    ):
        with pytest.raises(InvalidInitialConditions, match=told):
            read_particles(tmp_path / name)


def test_a_header_in_a_comment_is_one_as_numpy_writes_it(tmp_path: Path) -> None:
    table = np.array(ROWS_3D)
    turned = table[:, [1, 2, 3, 4, 5, 6, 0]]
    np.savetxt(tmp_path / "a.txt", turned, header="x y z vx vy vz m")
    assert read_particles(tmp_path / "a.txt") == ROWS_3D
    np.savetxt(tmp_path / "b.txt", table, header="masses and places of two bodies, so far")
    assert read_particles(tmp_path / "b.txt") == ROWS_3D
    (tmp_path / "c.csv").write_text("m,x,y,vx,vy,m\n1,0,0,0,0,2\n1,1,0,0,0,2\n")
    with pytest.raises(InvalidInitialConditions, match="more than one column m"):
        read_particles(tmp_path / "c.csv")


def test_a_snapshot_of_gadget_is_read(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    table = np.array([*ROWS_3D, [1.0, 5, 5, 5, 0, 0, 0]])
    with h5py.File(tmp_path / "snapshot.hdf5", "w") as file:
        file.create_group("Header").attrs["MassTable"] = [0, 0, 0, 0, 1.0, 0]
        for kind, rows, masses in (("PartType1", table[:2], True), ("PartType4", table[2:], False)):
            group = file.create_group(kind)
            group["Coordinates"], group["Velocities"] = rows[:, 1:4], rows[:, 4:]
            if masses:
                group["Masses"] = rows[:, 0]
    assert read_particles(tmp_path / "snapshot.hdf5") == table.tolist()
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(InvalidInitialConditions):
        read_particles(tmp_path / "broken.h5")


def test_an_archive_of_rebound_is_read(tmp_path: Path) -> None:
    rebound = pytest.importorskip("rebound")
    sim = rebound.Simulation()
    for m, x, y, z, vx, vy, vz in ROWS_3D:
        sim.add(m=m, x=x, y=y, z=z, vx=vx, vy=vy, vz=vz)
    sim.save_to_file(str(tmp_path / "archive.bin"))
    assert read_particles(tmp_path / "archive.bin") == ROWS_3D
    (tmp_path / "broken.bin").write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidInitialConditions):
        read_particles(tmp_path / "broken.bin")


def test_what_an_hdf5_file_names_elsewhere_is_not_read(tmp_path: Path) -> None:
    """Whoever sends a file must not get others of this machine as coordinates."""
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(64)))
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["mass"] = [1.0, 1.0]
    rows = {"pos": [[0.0, 0.0], [1.0, 0.0]], "vel": [[0.0, 0.0], [0.0, 1.0]]}

    def begun(name: str) -> Any:
        file = h5py.File(tmp_path / name, "w")
        for key, values in rows.items():
            file[key] = values
        return file

    with begun("external.h5") as file:
        file.create_dataset("mass", (2,), "u1", external=[(str(secret), 0, 2)])
    with begun("linked.h5") as file:
        file["mass"] = h5py.ExternalLink(str(other), "mass")
    with begun("soft.h5") as file:
        file["elsewhere"] = h5py.ExternalLink(str(other), "/")
        file["mass"] = h5py.SoftLink("/elsewhere/mass")
    with begun("virtual.h5") as file:
        layout = h5py.VirtualLayout((2,), "f8")
        layout[:] = h5py.VirtualSource(str(other), "mass", (2,))
        file.create_virtual_dataset("mass", layout)
    with h5py.File(tmp_path / "nested.h5", "w") as file:
        group = file.create_group("PartType1")
        group["Coordinates"], group["Velocities"] = np.zeros((2, 3)), np.zeros((2, 3))
        group.create_dataset("Masses", (2,), "u1", external=[(str(secret), 0, 2)])
    for path in ("external", "linked", "soft", "virtual", "nested"):
        with pytest.raises(InvalidInitialConditions, match="in another file, or a link"):
            read_particles(tmp_path / f"{path}.h5")
    with begun("good.h5") as file:
        file["mass"] = [1.0, 1.0]
    assert len(read_particles(tmp_path / "good.h5")) == 2


def test_a_damaged_archive_of_numpy_is_told(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", rows=np.random.default_rng(1).random((500, 5)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    content[len(content) // 2 + 1] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InvalidInitialConditions, match="is not a table of numbers"):
        read_particles(tmp_path / "a.npz")
