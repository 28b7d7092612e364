import dataclasses
import hashlib
import http.server
import re
import socket
import threading

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from aquamvs.cli import main
from aquamvs.errors import WeightsError
from aquamvs.io import CACHE_VARIABLE
from aquamvs.matching import WEIGHTS, WeightsFile, list_weights, resolve_weights
from aquamvs.matching.checkpoints import load_strictly, read_tensors
from aquamvs.matching.weights import weights_folder

CONTENT = b"a small checkpoint" * 100


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def server():
    """A local server of one file that counts how often it is asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self):
            type(self).asked += 1
            found = self.path == "/model.pth"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(CONTENT if found else b"no such page")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", Handler
        running.shutdown()
        thread.join()


def published(url, *, content=CONTENT):
    return WeightsFile(
        name="model",
        filename="model.pth",
        url=url,
        sha256=hashlib.sha256(content).hexdigest(),
        size_mb=len(content) / 1e6,
        licence="MIT",
    )


def test_a_missing_file_is_downloaded_once_checked_and_kept(server, cache):
    address, handler = server
    file = published(f"{address}/model.pth")
    path = resolve_weights(file)
    assert path == cache / "model.pth"
    assert path.read_bytes() == CONTENT
    assert resolve_weights(file) == path
    assert handler.asked == 1


def test_a_download_with_the_wrong_checksum_leaves_nothing_behind(server, cache):
    file = published(f"{server[0]}/model.pth", content=b"something else")
    with pytest.raises(WeightsError, match=r"model\.pth delivers is not the published file"):
        resolve_weights(file)
    assert list(cache.iterdir()) == []


def test_a_page_that_is_gone_is_a_weights_error(server, cache):
    with pytest.raises(WeightsError, match="404"):
        resolve_weights(published(f"{server[0]}/moved.pth"))


def test_without_a_network_one_sentence_says_what_to_do(cache):
    with socket.socket() as unused:  # a port on which nobody listens
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/model.pth"
    with pytest.raises(WeightsError) as error:
        resolve_weights(published(url))
    message = str(error.value)
    for part in ("model.pth", str(cache), url, CACHE_VARIABLE, "weights: bundled"):
        assert part in message
    assert "\n" not in message


def test_downloading_can_be_switched_off(server):
    with pytest.raises(WeightsError, match="switched off"):
        resolve_weights(published(f"{server[0]}/model.pth"), download=False)
    assert server[1].asked == 0


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b""])
def test_an_altered_or_truncated_file_in_the_cache_is_refused(cache, content):
    cache.mkdir(parents=True)
    (cache / "model.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"SHA-256 .* truncated, altered or another file"):
        resolve_weights(published("http://127.0.0.1:9/model.pth"))


def test_an_explicit_path_is_a_file_or_a_folder_that_holds_it(tmp_path):
    own = tmp_path / "own.pth"
    own.write_bytes(b"the user's own training")
    assert resolve_weights("aliked-n16", path=own) == own
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(WeightsError, match=re.escape("aliked-n16.pth")):
        resolve_weights("aliked-n16", path=folder)
    (folder / "aliked-n16.pth").write_bytes(b"")
    assert resolve_weights("aliked-n16", path=folder) == folder / "aliked-n16.pth"
    with pytest.raises(WeightsError, match="no file at"):
        resolve_weights("aliked-n16", path=tmp_path / "nowhere.pth")


def test_an_explicit_path_is_checked_against_a_given_checksum(tmp_path):
    own = tmp_path / "own.pth"
    own.write_bytes(CONTENT)
    right = hashlib.sha256(CONTENT).hexdigest()
    assert resolve_weights("aliked-n16", path=own, sha256=right.upper()) == own
    with pytest.raises(WeightsError, match="SHA-256"):
        resolve_weights("aliked-n16", path=own, sha256="0" * 64)


def test_non_commercial_weights_are_never_downloaded(cache):
    with pytest.raises(WeightsError, match=r"not downloaded automatically .*non-commercial"):
        resolve_weights("superpoint-v1")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(WeightsError, match="lightglue-aliked"):
        resolve_weights("superglue")


def test_the_listing_says_what_is_present(cache):
    assert not any(status.present for status in list_weights())
    cache.mkdir(parents=True)
    (cache / WEIGHTS["romav2"].filename).write_bytes(b"")
    present = {status.file.name: status.present for status in list_weights()}
    assert present.pop("romav2")
    assert not any(present.values())
    assert set(present) | {"romav2"} == set(WEIGHTS)


def test_the_command_fetches_what_is_missing_and_may_be_downloaded(
    server, cache, monkeypatch, capsys
):
    address, handler = server
    table = {
        "model": published(f"{address}/model.pth"),
        "theirs": dataclasses.replace(published(None), name="theirs", filename="theirs.pth"),
    }
    monkeypatch.setattr("aquamvs.matching.weights.WEIGHTS", table)
    assert main(["weights", "--fetch", "-q"]) == 0
    assert capsys.readouterr().out.split() == [str(cache / "model.pth")]
    assert [path.name for path in cache.iterdir()] == ["model.pth"]
    assert main(["weights", "--fetch", "-q"]) == 0  # nothing is missing any more
    assert handler.asked == 1
    assert [status.present for status in list_weights()] == [True, False]


def test_every_entry_of_the_table_is_complete():
    for name, file in WEIGHTS.items():
        assert file.name == name
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.url is None or file.url.startswith("https://")
        assert file.url is None or file.url.endswith(file.filename)
    assert len({file.filename for file in WEIGHTS.values()}) == len(WEIGHTS)


def test_the_default_cache_is_the_users_cache_folder(monkeypatch):
    monkeypatch.delenv(CACHE_VARIABLE)
    assert weights_folder().parts[-2:] == ("aquamvs", "weights")


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_a_checkpoint_survives_both_formats(tmp_path):
    state = small_network().state_dict()
    torch.save(state, tmp_path / "model.pth")
    save_file(state, tmp_path / "model.safetensors")
    for name in ("model.pth", "model.safetensors"):
        network = small_network()
        nn.init.zeros_(network[0].weight)
        load_strictly(network, read_tensors(tmp_path / name), path=tmp_path / name, model="it")
        assert torch.equal(network[0].weight, state["0.weight"])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "random"])
def test_files_that_are_no_checkpoints_are_refused(tmp_path, suffix, damage):
    path = tmp_path / f"model{suffix}"
    if suffix == ".pth":
        torch.save(small_network().state_dict(), path)
    else:
        save_file(small_network().state_dict(), path)
    content = path.read_bytes()
    noise = bytes(torch.randint(0, 256, (997,), generator=torch.Generator().manual_seed(0)))
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "empty": b"",
            "text": b"<html>404 not found</html>\n" * 30,
            "random": noise,
        }[damage]
    )
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        read_tensors(path)


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_in_a_checkpoint_is_executed(tmp_path, capsys):
    path = tmp_path / "model.pth"
    torch.save({"0.weight": Malicious()}, path)
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        read_tensors(path)
    assert capsys.readouterr().out == ""


def test_a_checkpoint_must_be_a_dictionary(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "model.pth")
    with pytest.raises(WeightsError, match="holds a list"):
        read_tensors(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.bias"), r"no 0\.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown extra"),
        (lambda s: s.update({"0.bias": torch.zeros(5)}), r"shape \(5,\) instead of \(4,\)"),
        (lambda s: s.update({"0.bias": torch.full((4,), torch.nan)}), "infinite or undefined"),
        (lambda s: s.update({"0.bias": 3}), r"0\.bias is a int"),
        (lambda s: s.clear(), "and 4 more"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_change_nothing(tmp_path, change, message):
    network = small_network()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = dict(network.state_dict())
    change(state)
    with pytest.raises(WeightsError, match=message):
        load_strictly(network, state, path=tmp_path / "model.pth", model="the model")
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_buffers_that_the_network_derives_may_be_absent(tmp_path):
    network = small_network()
    state = {name: value + 1 for name, value in network.state_dict().items()}
    del state["1.num_batches_tracked"]
    state["old"] = torch.zeros(2)
    load_strictly(
        network,
        state,
        path=tmp_path,
        model="it",
        derived=["1.num_batches_tracked"],
        unused=["old"],
    )
    loaded = network.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state if name != "old")


def test_the_description_of_a_file_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        WEIGHTS["romav2"].sha256 = "0"
