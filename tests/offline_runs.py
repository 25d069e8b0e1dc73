"""Offline runs of W&B, read back."""

import json
import struct
from pathlib import Path
from typing import Any


def read_back(path: Path) -> dict[str, Any]:
    """What an offline run holds: LevelDB's log format with W&B's records."""
    from wandb.proto.wandb_internal_pb2 import Record

    told: dict[str, Any] = {"epochs": [], "history": [], "logged": set()}
    told |= {"summary": set(), "artifacts": {}}
    for payload in _log_records(path.read_bytes()):
        record = Record()
        record.ParseFromString(payload)
        items = {item.key or ".".join(item.nested_key): item for item in record.history.item}
        if "epoch" in items:
            told["epochs"].append(int(items["epoch"].value_json))
            row = {key: json.loads(item.value_json) for key, item in items.items()}
            told["history"].append(row)
        told["logged"] |= {item.key or item.nested_key[0] for item in record.history.item}
        if record.HasField("run"):
            told["group"], told["job_type"] = record.run.run_group, record.run.job_type
            told["name"], told["tags"] = record.run.display_name, list(record.run.tags)
        if record.HasField("artifact") and record.artifact.type == "model":
            contents = record.artifact.manifest.contents
            told["artifacts"][record.artifact.name] = {each.path: each.ref for each in contents}
        if record.HasField("exit"):
            told["exit_code"] = record.exit.exit_code
        told["summary"] |= {item.key or item.nested_key[0] for item in record.summary.update}
    return told


def _log_records(content: bytes) -> list[bytes]:
    position, whole, parts = 7, [], b""  # after the file's own head
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in {1, 4}:  # a record, or the last part of one
            whole.append(parts)
            parts = b""
    return whole
