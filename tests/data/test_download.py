"""Downloads from a server on this machine: whole, broken off, resumed, wrong; and unpacking."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from tqdm import tqdm

from tttlib import __main__ as cli
from tttlib.data import DamagedDataError
from tttlib.data.delivery import archives, download, transfer, unpack
from tttlib.data.delivery.transfer import DownloadError

BYTES = 3 << 20
CONTENT = os.urandom(BYTES - 1000)


def tar_bytes(members: dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


WHOLE = tar_bytes({"CIFAR-10-C/fog.npy": CONTENT, "CIFAR-10-C/labels.npy": b"labels"})


@dataclass
class Server:
    """What is served at /file, how, and what was asked."""

    content: bytes = WHOLE
    cut: int | None = None  # the connection ends after so many bytes of an answer
    ranges: bool = True
    status: int = 200
    length: bool = True
    encoding: str = ""
    begin: int | None = None  # a partial answer starts here, whatever was asked for
    version: dict[str, str] = field(default_factory=dict)  # ETag or Last-Modified
    location: str = ""  # of a redirect
    asked: list[str | None] = field(default_factory=list)  # the Range of every request
    conditions: list[str | None] = field(default_factory=list)  # and its If-Range
    served: int = 0
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, **headers: object) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()

        def do_GET(self) -> None:
            asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
            state.asked.append(asked)
            state.conditions.append(condition)
            if state.location:
                return self.answer(302, Location=state.location, Content_Length=0)
            if state.status != 200:
                return self.send_error(state.status)
            status, start, n, headers = 200, 0, len(state.content), dict(state.version)
            same = not condition or condition in state.version.values()
            if asked and state.ranges and same:
                status, start = 206, int(asked.removeprefix("bytes=").removesuffix("-"))
                start = start if state.begin is None else state.begin
                if start >= n:
                    return self.answer(416, Content_Range=f"bytes */{n}", Content_Length=0)
                headers["Content_Range"] = f"bytes {start}-{n - 1}/{n}"
            if state.length:
                headers["Content_Length"] = str(n - start)
            if state.encoding:
                headers["Content_Encoding"] = state.encoding
            self.answer(status, **headers)
            body = state.content[start:][: state.cut]
            state.served += len(body)
            with contextlib.suppress(ConnectionError):  # the client has hung up
                self.wfile.write(body)

        def log_message(self, *ignored: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{running.server_port}/file"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield state
    running.shutdown()
    thread.join()
    running.server_close()


Offer = Callable[..., archives.Archive]
NAME = "CIFAR-10-C.tar"


@pytest.fixture
def part(offer: Offer, tmp_path: Path) -> Path:
    """What an earlier transfer may have left."""
    return tmp_path / f"{NAME}.part"


@pytest.fixture
def offer(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., archives.Archive]:
    """Makes the server's content the archive of cifar10-c, with its right md5."""

    def put(content: bytes = WHOLE, **changed: Any) -> archives.Archive:
        server.content = content
        checksum = "md5:" + hashlib.md5(content).hexdigest()
        old = archives.ARCHIVES["cifar10-c"][0]
        new = replace(old, **{"url": server.url, "checksum": checksum, **changed})
        monkeypatch.setitem(archives.ARCHIVES, "cifar10-c", (new,))
        return new

    put()
    return put


def get(root: Path, **options: Any) -> list[Path]:
    return download.download("cifar10-c", root, **options)


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.name != "cache"}


def fails(root: Path, *said: object, kind: Any = DownloadError, **options: Any) -> None:
    """The download ends in one line of that kind, which says all of this."""
    with pytest.raises(kind) as caught:
        get(root, **options)
    message = str(caught.value)
    assert all(str(part) in message for part in said) and "\n" not in message, message


def link(kind: bytes, target: str) -> bytes:
    stream = io.BytesIO(tar_bytes({"CIFAR-10-C/labels.npy": b"labels"}))
    with tarfile.open(fileobj=stream, mode="a") as tar:
        info = tarfile.TarInfo("CIFAR-10-C/fog.npy")
        info.type, info.linkname = kind, target
        tar.addfile(info)
    return stream.getvalue()


REFUSED = {
    "parent": tar_bytes({"CIFAR-10-C/../../evil": b"x"}),
    "absolute": tar_bytes({"/etc/evil": b"x"}),
    "drive": tar_bytes({"C:/evil": b"x"}),
    "backslash": tar_bytes({"CIFAR-10-C\\..\\evil": b"x"}),
    "symlink": link(tarfile.SYMTYPE, "../../secret"),
    "symlink inside": link(tarfile.SYMTYPE, "labels.npy"),
    "hard link": link(tarfile.LNKTYPE, "CIFAR-10-C/labels.npy"),
    "device": link(tarfile.CHRTYPE, ""),
}
DAMAGED = {
    "cut": WHOLE[: len(WHOLE) // 2],
    "text": b"<html>not found</html>" * 100,
    "empty": b"",
    "another": tar_bytes({"CIFAR-100-C/fog.npy": b"fog"}),
    "cut gz": tar_bytes({"CIFAR-10-C/fog.npy": CONTENT}, "w:gz")[:-2000],
}
PART, BY_HAND = f"{NAME}.part", f"by hand, save it as ROOT/{NAME} and run"
MD5 = hashlib.md5(WHOLE).hexdigest()
AGAIN = "remove it and download it again"
MIB = 1 << 20
# trouble -> what is said, what is left, and what it comes from
TROUBLE: dict[str, tuple[tuple[str, ...], set[str], dict[str, Any]]] = {
    **{f"status {code}": (
        (f"/file answers {code} ", BY_HAND), {PART}, {"serve": {"status": code}, "begun": b"x"})
       for code in (404, 503)},
    "no server": (
        ("127.0.0.1:9/file cannot be reached (", "refused"), set(),
        {"offer": {"url": "http://127.0.0.1:9/file"}}),
    "no address": (
        ("nonsense://x cannot be fetched",), set(), {"offer": {"url": "nonsense://x"}}),
    "wrong checksum": (
        ("/file has a wrong checksum", "0" * 32, MD5, "removed"), set(),
        {"offer": {"checksum": "md5:" + "0" * 32}}),
    "its end unknown": (
        ("/file has a wrong checksum",), set(), {"serve": {"cut": MIB, "length": False}}),
    "only the range known": (
        (f"broke off after 6,000 of {len(WHOLE):,} bytes; ROOT/{PART} is kept",), {PART},
        {"serve": {"cut": 1000, "length": False}, "begun": WHOLE[:5000]}),
    "promises too much": ((" bytes, more than any dataset",), set(), {"largest": MIB}),
    "sends too much": (
        ("sent more than the 1,048,576 bytes",), set(),
        {"largest": MIB, "serve": {"length": False}}),
    **{f"{name} archive": ((f"ROOT/{NAME} ", AGAIN), {NAME}, {"offer": {"content": content}})
       for name, content in (REFUSED | DAMAGED).items()},
    **{f"{name} zip": (
        ("ROOT/a.zip ", AGAIN), {"a.zip"}, {"offer": {"content": content, "file": "a.zip"}})
       for name, content in DAMAGED.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble(
    name: str, server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, left, how = TROUBLE[name]
    root = tmp_path / "a" / "root"
    root.mkdir(parents=True)
    if "begun" in how:
        (root / PART).write_bytes(how["begun"])
    monkeypatch.setattr(transfer, "_LARGEST", how.get("largest", transfer._LARGEST))
    offer(**how.get("offer", {}))
    vars(server).update(how.get("serve", {}))
    kinds = DownloadError, DamagedDataError
    fails(root, *(part.replace("ROOT", str(root)) for part in said), kind=kinds)
    assert names(root) == left and names(tmp_path / "a") == {"root"}


class Interrupted(tqdm):
    """A bar that raises `what` when the second chunk has arrived."""

    what: BaseException = KeyboardInterrupt()

    def update(self, n: float | None = 1) -> None:
        super().update(n)
        if self.n > transfer._CHUNK:
            raise self.what


def complete(root: Path) -> bool:
    """The dataset is there, whole, and nothing besides."""
    folder = root / "CIFAR-10-C"
    return (
        names(root) == {"CIFAR-10-C"}
        and names(folder) == {"fog.npy", "labels.npy"}
        and (folder / "fog.npy").read_bytes() == CONTENT
    )


def test_whole(server: Server, offer: Offer, tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    assert get(root) == [root / "CIFAR-10-C"] and complete(root)
    assert server.asked == [None] and server.served == len(WHOLE)
    assert get(root) == [root / "CIFAR-10-C"] and len(server.asked) == 1  # not fetched again


def test_the_command_line(
    server: Server, offer: Offer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "download", "cifar10-c", "--data", str(tmp_path)]
    server.cut = 1 << 20
    for more, code in ((["--keep-archive"], 2), ([], 0)):
        with pytest.raises(SystemExit) as caught:
            cli.main([*words, *more])
        assert (caught.value.code or 0) == code
        out, err = capsys.readouterr()
        assert bool(code) == ("is kept; the same command resumes" in err)
        server.cut = None
    assert f"there: {tmp_path / 'CIFAR-10-C'}\nnext: tttlib data check cifar10-c\n" in out
    assert complete(tmp_path)


def test_broken_off_then_resumed(server: Server, part: Path, tmp_path: Path) -> None:
    server.cut = 1 << 20
    fails(tmp_path, f"{part} is kept; the same command resumes")
    there = part.stat().st_size
    assert names(tmp_path) >= {part.name} and part.read_bytes() == WHOLE[:there]
    assert 0 < there <= 1 << 20
    server.cut = None
    get(tmp_path)
    assert server.asked == [None, f"bytes={there}-"] and complete(tmp_path)
    assert server.served == (1 << 20) + len(WHOLE) - there


@pytest.mark.parametrize(
    ("left", "server_", "asked"),
    [
        (b"x" * 5000, {"ranges": False}, ["bytes=5000-"]),
        (WHOLE[:5000], {"begin": 4000}, ["bytes=5000-", None]),
        (WHOLE, {}, [f"bytes={len(WHOLE)}-"]),
        (WHOLE + b"x" * 10, {}, [f"bytes={len(WHOLE) + 10}-", None]),
    ],
    ids=["no ranges", "another range", "whole", "too long"],
)
def test_a_part_that_cannot_be_continued(
    server: Server, part: Path, tmp_path: Path, left: bytes, server_: dict, asked: list
) -> None:
    part.write_bytes(left)
    vars(server).update(server_)
    get(tmp_path)
    assert server.asked == asked and complete(tmp_path)
    assert (server.served == 0) == (left == WHOLE)


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


BREAKS = pytest.mark.parametrize("what", [KeyboardInterrupt(), FULL], ids=["Ctrl-C", "a full disk"])
Patch = pytest.MonkeyPatch


@BREAKS
def test_what_has_arrived_is_kept(
    server: Server, part: Path, tmp_path: Path, monkeypatch: Patch, what: BaseException
) -> None:
    monkeypatch.setattr(Interrupted, "what", what)
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "tqdm", Interrupted)
        with pytest.raises((KeyboardInterrupt, DownloadError)) as caught:
            get(tmp_path)
    assert what is not FULL or f"{tmp_path} is full" in str(caught.value)
    there = part.stat().st_size
    assert names(tmp_path) == {part.name} and there > transfer._CHUNK
    get(tmp_path)
    assert server.asked[1] == f"bytes={there}-" and complete(tmp_path)


def test_an_archive_saved_by_hand_is_used(server: Server, offer: Offer, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(WHOLE)
    get(tmp_path, keep=True)
    assert server.asked == [] and names(tmp_path) == {"CIFAR-10-C", NAME}


def test_gzip_is_not_undone_on_the_way(server: Server, offer: Offer, tmp_path: Path) -> None:
    """Some servers call a .tar.gz a compressed .tar."""
    server.encoding = "gzip"
    offer(tar_bytes({"CIFAR-10-C/fog.npy": b"fog"}, "w:gz"), file="CIFAR-10-C.tar.gz")
    get(tmp_path)
    assert (tmp_path / "CIFAR-10-C" / "fog.npy").read_bytes() == b"fog"


VERSIONS = {
    "etag": {"ETag": '"one"'},
    "date": {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"},
    "weak etag and date": {"ETag": 'W/"one"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"},
}


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("changed", [False, True])
def test_only_the_same_file_is_continued(
    name: str, changed: bool, server: Server, offer: Offer, tmp_path: Path
) -> None:
    offer(checksum=None)  # nothing would find out afterwards
    server.version, server.cut = VERSIONS[name], 1 << 20
    fails(tmp_path, "the same command resumes", unverified=True)
    server.cut = None
    if changed:
        old = server.version.items()
        server.version = {k: v.replace("one", "two").replace("2015", "2016") for k, v in old}
        server.content = tar_bytes({"CIFAR-10-C/fog.npy": CONTENT[::-1]})
    get(tmp_path, unverified=True)
    condition = VERSIONS[name].get("Last-Modified", '"one"')
    assert server.conditions == [None, condition] and str(server.asked[1]).startswith("bytes=")
    expected = CONTENT[::-1] if changed else CONTENT
    assert (tmp_path / "CIFAR-10-C" / "fog.npy").read_bytes() == expected
    assert names(tmp_path) == {"CIFAR-10-C"}


def test_a_server_that_mixes_two_versions(server: Server, offer: Offer, tmp_path: Path) -> None:
    """It continues whatever it has, without looking at If-Range."""
    offer(checksum=None)
    server.version, server.cut = {"ETag": '"one"'}, 1 << 20
    fails(tmp_path, "the same command resumes", unverified=True)
    server.cut, server.version = None, {"ETag": '"two"', "X-Ignores": '"one"'}
    get(tmp_path, unverified=True)
    assert complete(tmp_path) and server.asked[-1] is None  # began anew


def test_a_part_of_unknown_origin(server: Server, offer: Offer, part: Path, tmp_path: Path) -> None:
    offer(checksum=None)
    part.write_bytes(b"x" * 5000)
    get(tmp_path, unverified=True)
    assert server.asked == [None] and complete(tmp_path)
    for note in (b"", b"no address", b"http://elsewhere\nv", b"\0\0", b"\xff\xfe"):
        part.write_bytes(WHOLE[:5000])
        part.with_name(f"{part.name}.version").write_bytes(note)
        shutil.rmtree(tmp_path / "CIFAR-10-C")
        offer()
        get(tmp_path)  # the checksum will tell
        assert server.conditions[-1] is None and complete(tmp_path)


@pytest.mark.parametrize(
    ("locations", "said"),
    [
        (["http://a.example/file"], "leads to http://a.example/file, which is not encrypted"),
        (["https://b.example/x", "http://a.example/y"], "leads to http://a.example/y, which"),
        (["ftp://a.example/file"], "leads to ftp://a.example/file, which is not encrypted"),
        (["https://b.example/x"] * 20, "leads from address to address"),
    ],
)
def test_https_is_never_left(
    locations: list[str], said: str, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest, asked = iter(locations), []

    def redirect(url: str, **options: Any) -> requests.Response:
        asked.append(url)
        response = requests.Response()
        response.status_code, response.url, response.raw = 302, url, io.BytesIO()
        response.headers["Location"] = next(rest)
        return response

    monkeypatch.setattr(requests, "get", redirect)
    offer(url="https://a.example/file")
    fails(tmp_path, said)
    assert all(url.startswith("https://") for url in asked) and names(tmp_path) == set()


def test_a_redirect_is_followed(server: Server, offer: Offer, tmp_path: Path) -> None:
    first = server.url.replace("/file", "/moved")
    offer(url=first)
    get_ = requests.get

    def once(url: str, **options: Any) -> requests.Response:
        server.location = "/file" if url == first else ""
        return get_(url, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "get", once)
        get(tmp_path)
    assert complete(tmp_path) and len(server.asked) == 2


def test_two_at_once(server: Server, offer: Offer, tmp_path: Path) -> None:
    """The second one waits, finds the folders and fetches nothing."""
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: get(tmp_path), range(2)))
    assert results == [[tmp_path / "CIFAR-10-C"]] * 2 and complete(tmp_path)
    assert len(server.asked) == 1


def test_too_little_room_is_told_before(offer: Offer, tmp_path: Path, monkeypatch: Patch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    fails(tmp_path, f"{tmp_path} has 1,000 bytes free, but {len(WHOLE):,} are needed for {NAME}")
    assert names(tmp_path) == set()


@BREAKS
def test_unpacking_leaves_nothing_half_done(
    server: Server, offer: Offer, tmp_path: Path, monkeypatch: Patch, what: BaseException
) -> None:
    made: list[str] = []
    makefile = tarfile.TarFile.makefile

    def interrupted(tar: Any, member: Any, target: Any) -> None:
        if made:
            raise what
        made.append(member.name)
        makefile(tar, member, target)

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "makefile", interrupted)
        with pytest.raises((KeyboardInterrupt, DownloadError)) as caught:
            get(tmp_path)
    said = f"{tmp_path} is full: no room for the content of", f"{len(WHOLE):,} bytes"
    assert what is not FULL or all(part in str(caught.value) for part in said)
    assert made and names(tmp_path) == {NAME}
    get(tmp_path)
    assert complete(tmp_path) and len(server.asked) == 1


def test_a_root_that_cannot_be_made(offer: Offer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fails(tmp_path / "file" / "root", tmp_path / "file", " cannot be written")


def zip_bytes(name: str, content: bytes = b"x", mode: int = 0o100644) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("CIFAR-10-C/labels.npy", b"labels")
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        made.writestr(info, content)
    return stream.getvalue()


MADE_HARMLESS = {
    "parent": zip_bytes("CIFAR-10-C/../../evil"),
    "absolute": zip_bytes("/evil"),
    "symlink": zip_bytes("CIFAR-10-C/fog.npy", b"../../secret", 0o120777),
}


@pytest.mark.parametrize("name", MADE_HARMLESS)
def test_hostile_zip_files(name: str, offer: Offer, tmp_path: Path) -> None:
    root = tmp_path / "a" / "root"
    offer(MADE_HARMLESS[name], file="CIFAR-10-C.zip")
    get(root)
    assert names(root) == {"CIFAR-10-C"} and names(tmp_path / "a") == {"root"}
    assert not any(path.is_symlink() for path in root.rglob("*"))


def test_a_zip_and_folders_further_down(server: Server, offer: Offer, tmp_path: Path) -> None:
    """What is asked for is found below another folder, and goes where the loader looks."""
    offer(zip_bytes("other/CIFAR-10-C/fog.npy"), file="a.zip", into="deep", folders=("CIFAR-10-C",))
    assert get(tmp_path) == [tmp_path / "deep" / "CIFAR-10-C"]
    assert names(tmp_path / "deep" / "CIFAR-10-C") == {"labels.npy"}  # the least deep


def test_folders_that_are_there_stay(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar_bytes({"fog/1": b"new", "snow/1": b"new"}))
    (tmp_path / "fog").mkdir()
    unpack.unpack(archive, tmp_path, ["fog", "snow"])
    assert names(tmp_path) == {"a.tar", "fog", "snow"} and not names(tmp_path / "fog")


def test_an_unknown_checksum_is_refused_or_given(
    server: Server, offer: Offer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    right = offer().checksum
    offer(checksum=None)
    fails(tmp_path, "no checksum is known", "--unverified", kind=ValueError)
    assert server.asked == []
    fails(tmp_path, "wrong checksum", kind=DamagedDataError, checksum="sha256:" + "1" * 64)
    get(tmp_path / "given", checksum=right)
    assert complete(tmp_path / "given") and "UNVERIFIED" not in caplog.text
    get(tmp_path / "accepted", unverified=True)
    assert complete(tmp_path / "accepted")
    assert f"UNVERIFIED: {server.url} has no known checksum" in caplog.text
    assert hashlib.sha256(WHOLE).hexdigest() in caplog.text


def test_a_single_file(
    server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = replace(offer(b"n01/a.JPEG"), file="list.txt", folders=())
    monkeypatch.setitem(archives.ARCHIVES, "imagenet-5000-list", (listed,))
    for _ in range(2):
        found = download.download("imagenet-5000-list", tmp_path)
        assert found == [tmp_path / "list.txt"] and found[0].read_bytes() == b"n01/a.JPEG"
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("imagenet", {}, "imagenet needs an account: 1. register at https://image-net.org"),
        ("scenes", {}, "scenes is made on the spot"),
        ("cifar10-jpeg", {}, "cifar10-jpeg has no address that stays"),
        ("cifar", {}, "no download for 'cifar'; there are tiny-imagenet, "),
        ("imagenet-c", {"only": ["nose.tar"]}, "imagenet-c has no archive 'nose.tar'; it has no"),
        ("imagenet-c", {"checksum": "md5:" + "0" * 32}, "one checksum for several files"),
        ("tiny-imagenet-c", {}, "no checksum is known"),
        *(("cifar10-c", {"checksum": checksum}, r"is not ALGORITHM:HEX; .* md5 \(32\)")
          for checksum in ("", "md5:", "md5:12", "0" * 32, "crc:" + "0" * 8)),
    ],
)  # fmt: skip
def test_refusals(name: str, options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        download.download(name, tmp_path, **options)
    assert "\n" not in str(caught.value) and names(tmp_path) == set()


def test_the_registry_is_complete() -> None:
    from tttlib import corruptions
    from tttlib.data import NAMES

    assert {*archives.ARCHIVES, *archives.INSTEAD} == {*NAMES, "imagenet-5000-list"}
    for name, found in archives.ARCHIVES.items():
        for archive in found:
            assert archive.url.startswith("http") and archive.published
            if archive.checksum is not None:
                download._check_form(archive.checksum)
            else:
                assert name == "tiny-imagenet-c"
    of = [folder for archive in archives.ARCHIVES["imagenet-c"] for folder in archive.folders]
    assert sorted(of) == sorted(corruptions.NAMES + corruptions.EXTRA_NAMES)
