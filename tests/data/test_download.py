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

from tttlib import __main__ as cli
from tttlib.data import DamagedDataError, data_root
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
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            condition = self.headers.get("If-Range")
            state.conditions.append(condition)
            if condition and condition not in state.version.values():
                asked = None
            if state.location:
                self.send_response(302)
                self.send_header("Location", state.location)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if state.status != 200:
                self.send_error(state.status)
                return
            start, n = 0, len(state.content)
            if asked and state.ranges:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                start = start if state.begin is None else state.begin
                if start >= n:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{n}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{n - 1}/{n}")
            else:
                self.send_response(200)
            if state.length:
                self.send_header("Content-Length", str(n - start))
            for name, value in state.version.items():
                self.send_header(name, value)
            if state.encoding:
                self.send_header("Content-Encoding", state.encoding)
            self.end_headers()
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


Offer = Callable[..., archives.Archive]


def get(root: Path, **options: Any) -> list[Path]:
    return download.download("cifar10-c", root, **options)


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.name != "cache"}


def complete(root: Path) -> bool:
    """The dataset is there, whole, and nothing besides."""
    folder = root / "CIFAR-10-C"
    return (
        names(root) == {"CIFAR-10-C"}
        and names(folder) == {"fog.npy", "labels.npy"}
        and (folder / "fog.npy").read_bytes() == CONTENT
    )


# -- transfers -------------------------------------------------------------------------------------


def test_whole(server: Server, offer: Offer, tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    assert get(root) == [root / "CIFAR-10-C"] and complete(root)
    assert server.asked == [None] and server.served == len(WHOLE)
    assert get(root) == [root / "CIFAR-10-C"] and len(server.asked) == 1  # not fetched again


def test_the_command_line(
    server: Server,
    offer: Offer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TTTLIB_DATA", str(tmp_path))
    server.cut = 1 << 20
    for words, code in ((["--keep-archive"], 2), ([], 0)):
        with pytest.raises(SystemExit) as caught:
            cli.main(["data", "download", "cifar10-c", *words])
        assert (caught.value.code or 0) == code
        out, err = capsys.readouterr()
        (line,) = [one for one in err.splitlines() if one.startswith("error: ")] or [""]
        assert bool(code) == line.endswith("is kept; the same command resumes")
        server.cut = None
    assert f"there: {tmp_path / 'CIFAR-10-C'}\nnext: tttlib data check cifar10-c\n" in out
    assert complete(data_root(None))


@pytest.mark.parametrize("length", [True, False])
def test_broken_off_then_resumed(
    server: Server, offer: Offer, tmp_path: Path, length: bool
) -> None:
    server.cut, server.length = 1 << 20, length
    with pytest.raises((DownloadError, DamagedDataError)) as caught:
        get(tmp_path)
    assert "\n" not in str(caught.value)
    if not length:  # the end cannot be told from a whole file: only the checksum can
        assert isinstance(caught.value, DamagedDataError) and names(tmp_path) == set()
        return
    part = tmp_path / "CIFAR-10-C.tar.part"
    assert names(tmp_path) == {part.name}
    assert f"{part} is kept; the same command resumes" in str(caught.value)
    there = part.stat().st_size
    assert part.read_bytes() == WHOLE[:there] and 0 < there <= 1 << 20
    server.cut = None
    get(tmp_path)
    assert server.asked == [None, f"bytes={there}-"] and complete(tmp_path)
    assert server.served == (1 << 20) + len(WHOLE) - there


def test_resumed_many_times(server: Server, offer: Offer, tmp_path: Path) -> None:
    server.cut, tries = 700_000, 0
    while not (tmp_path / "CIFAR-10-C").exists():
        tries += 1
        assert tries < 9
        try:
            get(tmp_path)
        except DownloadError as error:
            assert "the same command resumes" in str(error)
    assert complete(tmp_path) and tries == -(-len(WHOLE) // 700_000)


def test_a_server_that_cannot_resume(server: Server, offer: Offer, tmp_path: Path) -> None:
    (tmp_path / "CIFAR-10-C.tar.part").write_bytes(b"x" * 5000)
    server.ranges = False
    get(tmp_path)
    assert server.asked == ["bytes=5000-"] and complete(tmp_path)


def test_a_server_that_answers_another_part(server: Server, offer: Offer, tmp_path: Path) -> None:
    (tmp_path / "CIFAR-10-C.tar.part").write_bytes(WHOLE[:5000])
    server.begin = 4000
    get(tmp_path)
    assert server.asked == ["bytes=5000-", None] and complete(tmp_path)


def test_the_rest_broken_off_without_a_length(server: Server, offer: Offer, tmp_path: Path) -> None:
    """Then only Content-Range tells how long the file is."""
    part = tmp_path / "CIFAR-10-C.tar.part"
    part.write_bytes(WHOLE[:5000])
    server.length, server.cut = False, 1000
    said = f"broke off after 6,000 of {len(WHOLE):,} bytes; {part} is kept"
    with pytest.raises(DownloadError, match=said):
        get(tmp_path)
    assert part.read_bytes() == WHOLE[:6000]
    server.cut = None
    get(tmp_path)
    assert complete(tmp_path)


@pytest.mark.parametrize("surplus", [0, 10])
def test_a_part_that_is_whole_or_too_long(
    server: Server, offer: Offer, tmp_path: Path, surplus: int
) -> None:
    (tmp_path / "CIFAR-10-C.tar.part").write_bytes(WHOLE + b"x" * surplus)
    get(tmp_path)
    assert complete(tmp_path) and server.served == (len(WHOLE) if surplus else 0)


def test_ctrl_c_keeps_the_part(
    server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, calls = transfer._put, []

    def interrupted(stream: Any, chunk: bytes) -> None:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(chunk))
        put(stream, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(tmp_path)
    part = tmp_path / "CIFAR-10-C.tar.part"
    assert names(tmp_path) == {part.name} and part.stat().st_size == sum(calls) > 0
    get(tmp_path)
    assert server.asked[1] == f"bytes={sum(calls)}-" and complete(tmp_path)


def test_wrong_checksum(server: Server, offer: Offer, tmp_path: Path) -> None:
    right = offer()
    offer(checksum="md5:" + "0" * 32)
    with pytest.raises(DamagedDataError) as caught:
        get(tmp_path)
    assert right.checksum is not None
    for said in (server.url, "0" * 32, right.checksum.removeprefix("md5:"), "removed"):
        assert said in str(caught.value)
    assert names(tmp_path) == set()
    offer()
    get(tmp_path)
    assert server.asked == [None, None] and complete(tmp_path)  # began anew


@pytest.mark.parametrize("status", [404, 503])
def test_an_error_of_the_server(server: Server, offer: Offer, tmp_path: Path, status: int) -> None:
    (tmp_path / "CIFAR-10-C.tar.part").write_bytes(WHOLE[:100])
    server.status = status
    with pytest.raises(DownloadError, match=f"{server.url} answers {status} .*by hand") as caught:
        get(tmp_path)
    assert f"save it as {tmp_path / 'CIFAR-10-C.tar'} " in str(caught.value)
    assert names(tmp_path) == {"CIFAR-10-C.tar.part"}


def test_no_server(server: Server, offer: Offer, tmp_path: Path) -> None:
    offer(url="http://127.0.0.1:9/file")
    with pytest.raises(DownloadError, match=r"127.0.0.1:9/file cannot be reached \(.*refused"):
        get(tmp_path)
    offer(url="nonsense://x")
    with pytest.raises(DownloadError, match="nonsense://x cannot be fetched"):
        get(tmp_path)


def test_an_archive_saved_by_hand_is_used(server: Server, offer: Offer, tmp_path: Path) -> None:
    (tmp_path / "CIFAR-10-C.tar").write_bytes(WHOLE)
    get(tmp_path, keep=True)
    assert server.asked == [] and names(tmp_path) == {"CIFAR-10-C", "CIFAR-10-C.tar"}


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
    with pytest.raises(DownloadError, match="the same command resumes"):
        get(tmp_path, unverified=True)
    server.cut = None
    if changed:
        server.version = {key: value.replace("one", "two").replace("2015", "2016")
                          for key, value in server.version.items()}  # fmt: skip
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
    with pytest.raises(DownloadError):
        get(tmp_path, unverified=True)
    server.cut, server.version = None, {"ETag": '"two"', "X-Ignores": '"one"'}
    get(tmp_path, unverified=True)
    assert complete(tmp_path) and server.asked[-1] is None  # began anew


def test_a_part_of_unknown_origin(server: Server, offer: Offer, tmp_path: Path) -> None:
    part = tmp_path / "CIFAR-10-C.tar.part"
    offer(checksum=None)
    part.write_bytes(b"x" * 5000)
    get(tmp_path, unverified=True)
    assert server.asked == [None] and complete(tmp_path)
    for note in ("", "[]", "{}", '{"url": "http://elsewhere", "validator": "v"}', "\0\0"):
        part.write_bytes(WHOLE[:5000])
        part.with_name(f"{part.name}.json").write_text(note)
        shutil.rmtree(tmp_path / "CIFAR-10-C")
        offer()
        get(tmp_path)  # the checksum will tell
        assert server.conditions[-1] is None and complete(tmp_path)


@pytest.mark.parametrize("length", [True, False])
def test_no_more_is_taken_than_was_promised(
    server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: bool
) -> None:
    monkeypatch.setattr(transfer, "_LARGEST", 1 << 20)
    monkeypatch.setattr(transfer, "_CHUNK", 1000)
    server.length = length
    with pytest.raises(DownloadError, match=r"sent more than|promises [0-9,]+ bytes, more than"):
        get(tmp_path)
    assert names(tmp_path) == set()


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
    locations: list[str],
    said: str,
    offer: Offer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rest = iter(locations)
    asked: list[str] = []

    def redirect(url: str, **options: Any) -> requests.Response:
        asked.append(url)
        response = requests.Response()
        response.status_code, response.url, response.raw = 302, url, io.BytesIO()
        response.headers["Location"] = next(rest)
        return response

    monkeypatch.setattr(requests, "get", redirect)
    offer(url="https://a.example/file")
    with pytest.raises(DownloadError, match=said):
        get(tmp_path)
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


def test_two_at_once(
    server: Server, offer: Offer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The second one waits, finds the folders and fetches nothing."""
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: get(tmp_path), range(2)))
    assert results == [[tmp_path / "CIFAR-10-C"]] * 2 and complete(tmp_path)
    assert len(server.asked) == 1


# -- disks -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk(server: Server, offer: Offer, tmp_path: Path) -> None:
    part = tmp_path / "CIFAR-10-C.tar.part"
    part.symlink_to("/dev/full")
    with pytest.raises(DownloadError) as caught:
        get(tmp_path)
    said = f"{tmp_path} is full: {len(WHOLE):,} more bytes are needed; make room"
    assert said in str(caught.value) and names(tmp_path) == {part.name}


def test_disk_full_half_way(
    server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = transfer._put

    def full(stream: Any, chunk: bytes) -> None:
        if stream.tell():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(stream, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_put", full)
        with pytest.raises(DownloadError, match=f"{tmp_path} is full: .* more bytes are needed"):
            get(tmp_path)
    assert names(tmp_path) == {"CIFAR-10-C.tar.part"}
    get(tmp_path)
    assert complete(tmp_path) and server.asked[1] is not None


def test_too_little_room_is_told_before(
    server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DownloadError) as caught:
        get(tmp_path)
    said = f"{tmp_path} has 1,000 bytes free, but {len(WHOLE):,} are needed for CIFAR-10-C.tar"
    assert said in str(caught.value) and names(tmp_path) == set()


def test_disk_full_while_unpacking(
    server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*ignored: object, **also: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "makefile", full)
        with pytest.raises(DownloadError) as caught:
            get(tmp_path)
    assert f"{tmp_path} is full: no room for the content of" in str(caught.value)
    assert f"{len(WHOLE):,} bytes" in str(caught.value)
    assert names(tmp_path) == {"CIFAR-10-C.tar"}
    get(tmp_path)
    assert complete(tmp_path) and len(server.asked) == 1


def test_a_root_that_cannot_be_made(server: Server, offer: Offer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match=f"{tmp_path / 'file'}.* cannot be written"):
        get(tmp_path / "file" / "root")


# -- unpacking -------------------------------------------------------------------------------------


def link(kind: bytes, target: str) -> bytes:
    stream = io.BytesIO(tar_bytes({"CIFAR-10-C/labels.npy": b"labels"}))
    with tarfile.open(fileobj=stream, mode="a") as tar:
        info = tarfile.TarInfo("CIFAR-10-C/fog.npy")
        info.type, info.linkname = kind, target
        tar.addfile(info)
    return stream.getvalue()


def zip_bytes(name: str, content: bytes = b"x", mode: int = 0o100644) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("CIFAR-10-C/labels.npy", b"labels")
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        made.writestr(info, content)
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
MADE_HARMLESS = {
    "parent": zip_bytes("CIFAR-10-C/../../evil"),
    "absolute": zip_bytes("/evil"),
    "symlink": zip_bytes("CIFAR-10-C/fog.npy", b"../../secret", 0o120777),
}


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_archives(name: str, offer: Offer, tmp_path: Path) -> None:
    root = tmp_path / "a" / "root"
    offer(REFUSED[name])
    with pytest.raises(DamagedDataError, match="remove it and download it again") as caught:
        get(root)
    assert str(root / "CIFAR-10-C.tar") in str(caught.value)
    assert names(root) == {"CIFAR-10-C.tar"}
    assert names(tmp_path / "a") == {"root"}


@pytest.mark.parametrize("name", MADE_HARMLESS)
def test_hostile_zip_files(name: str, offer: Offer, tmp_path: Path) -> None:
    root = tmp_path / "a" / "root"
    offer(MADE_HARMLESS[name], file="CIFAR-10-C.zip")
    get(root)
    assert names(root) == {"CIFAR-10-C"} and names(tmp_path / "a") == {"root"}
    assert not any(path.is_symlink() for path in root.rglob("*"))


DAMAGED = {
    "cut": WHOLE[: len(WHOLE) // 2],
    "text": b"<html>not found</html>" * 100,
    "empty": b"",
    "another": tar_bytes({"CIFAR-100-C/fog.npy": b"fog"}),
    "cut gz": tar_bytes({"CIFAR-10-C/fog.npy": CONTENT}, "w:gz")[:-2000],
}


@pytest.mark.parametrize("file", ["CIFAR-10-C.tar", "CIFAR-10-C.zip"])
@pytest.mark.parametrize("name", DAMAGED)
def test_unusable_archives(
    name: str, file: str, server: Server, offer: Offer, tmp_path: Path
) -> None:
    offer(DAMAGED[name], file=file)
    with pytest.raises(DamagedDataError, match="remove it and download it again") as caught:
        get(tmp_path)
    assert str(tmp_path / file) in str(caught.value) and names(tmp_path) == {file}


def test_a_zip_and_folders_further_down(server: Server, offer: Offer, tmp_path: Path) -> None:
    """What is asked for is found below another folder, and goes where the loader looks."""
    offer(zip_bytes("other/CIFAR-10-C/fog.npy"), file="a.zip", into="deep", folders=("CIFAR-10-C",))
    assert get(tmp_path) == [tmp_path / "deep" / "CIFAR-10-C"]
    assert names(tmp_path / "deep" / "CIFAR-10-C") == {"labels.npy"}  # the least deep


def test_an_interrupted_unpacking_leaves_nothing_half_done(
    server: Server, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    makefile = tarfile.TarFile.makefile

    def interrupted(tar: Any, member: Any, target: Any) -> None:
        if made:
            raise KeyboardInterrupt
        made.append(member.name)
        makefile(tar, member, target)

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "makefile", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(tmp_path)
    assert made and names(tmp_path) == {"CIFAR-10-C.tar"}
    get(tmp_path)
    assert complete(tmp_path) and len(server.asked) == 1


def test_folders_that_are_there_stay(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar_bytes({"fog/1": b"new", "snow/1": b"new"}))
    (tmp_path / "fog").mkdir()
    unpack.unpack(archive, tmp_path, ["fog", "snow"])
    assert names(tmp_path) == {"a.tar", "fog", "snow"} and not names(tmp_path / "fog")


# -- what may be downloaded ------------------------------------------------------------------------


def test_an_unknown_checksum_is_refused_or_given(
    server: Server, offer: Offer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    right = offer().checksum
    offer(checksum=None)
    with pytest.raises(ValueError, match=r"no checksum is known .* --unverified"):
        get(tmp_path)
    assert server.asked == []
    with pytest.raises(DamagedDataError, match="wrong checksum"):
        get(tmp_path, checksum="sha256:" + "1" * 64)
    get(tmp_path / "given", checksum=right)
    assert complete(tmp_path / "given") and "UNVERIFIED" not in caplog.text
    get(tmp_path / "accepted", unverified=True)
    assert complete(tmp_path / "accepted")
    assert f"UNVERIFIED: {server.url} has no known checksum" in caplog.text
    assert hashlib.sha256(WHOLE).hexdigest() in caplog.text


@pytest.mark.parametrize("checksum", ["", "md5:", "md5:12", "0" * 32, "crc:" + "0" * 8])
def test_a_malformed_checksum(offer: Offer, tmp_path: Path, checksum: str) -> None:
    with pytest.raises(ValueError, match=r"is not ALGORITHM:HEX; algorithms .* md5 \(32\)"):
        get(tmp_path, checksum=checksum)


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
    ],
)
def test_refusals(name: str, options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said.replace(".", r"\.")) as caught:
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
