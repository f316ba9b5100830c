"""The lab from outside its page: its endpoints, what its command line takes, and what it does not give away."""

import json
import socket
import urllib.error
import urllib.request

import pytest

from app import arguments, main
from tests.lab_page import ROOT


def test_the_endpoints_keep_clients_apart_and_speak_clearly(server, tmp_path):
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    one, two = (Client(server.url, verbose=False, download_files=str(tmp_path)) for _ in range(2))
    receipt = one.predict("The parrot of Vera is named Ulf and it sings at night.", api_name="/ingest")
    assert receipt["id"] == 1 and receipt["tokens"] > 1
    assert two.predict(api_name="/texts") == []
    answer = one.predict("What is the name of Vera's parrot?", 4, api_name="/ask")
    assert isinstance(answer["answer"], str) and answer["seconds"] > 0
    layers = one.predict("What is the name of Vera's parrot?", api_name="/inspect")["layers"]
    assert all(0 <= layer["chance"] <= 1 for layer in layers)
    file = one.predict(api_name="/memory_save")
    assert two.predict(handle_file(file), api_name="/memory_load") == {"texts": 1}
    assert one.predict(api_name="/reset") == {"texts": 0} and len(two.predict(api_name="/texts")) == 1
    for call, said in (
        (("", "/ingest"), "no text"),
        ((" ", "/inspect"), "no text"),
        ((99, "/delete"), "no receipt 99"),
        ((1.5, "/delete"), "give the number"),
    ):
        with pytest.raises(AppError, match=said):
            one.predict(call[0], api_name=call[1])


def test_a_memory_is_loaded_from_an_upload_alone(server, tmp_path):
    """A path of one's own choosing would open any file of the machine, another person's memory among them."""
    from gradio_client import Client

    victim = Client(server.url, verbose=False, download_files=str(tmp_path))
    victim.predict("The safe code of Vera is 4417 and nobody knows.", api_name="/ingest")
    file = victim.predict(api_name="/memory_save")
    body = json.dumps({"data": [{"path": str(file)}]}).encode()
    url, head = f"{server.url}/gradio_api/call/memory_load", {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, head)) as reply:
        event = json.load(reply)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as reply:
        said = reply.read().decode()
    assert "event: error" in said and "no uploaded file" in said


def test_the_lab_is_safe_by_default(capsys):
    assert arguments([]).host == "127.0.0.1" and not arguments([]).exposed
    for line, said in ((["--host", "0.0.0.0"], "--auth"), (["--auth", "nobody"], "NAME:PASSWORD")):
        with pytest.raises(SystemExit):
            arguments(line)
        assert said in capsys.readouterr().err


def test_a_wrong_start_ends_in_one_sentence(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        used, free = (str(one.getsockname()[1]) for one in (taken, probe))
    with socket.create_server(("127.0.0.1", int(used))):
        for line, said in (
            (["--threads", "0"], "--threads 0 is too little"),
            (["--max-session-gib", "nan"], "--max-session-gib nan is too little"),
            (
                ["--port", used],
                f"port {used} of 127.0.0.1 cannot be used (Address already in use): give another --port",
            ),
            (["--port", "99999"], "port 99999 of 127.0.0.1 cannot be used"),
            (["--port", free, "--threads", "1", "--model", "nosuchmodel"], "no checkpoint 'nosuchmodel'"),
        ):
            with pytest.raises(SystemExit) as ended:
                main(line)
            told = capsys.readouterr().err
            assert ended.value.code == 2 and f"error: {said}" in told.replace("--model: There is ", ""), told
            assert "Traceback" not in told and "GRADIO" not in told


def test_files_of_the_machine_cannot_be_fetched(server):
    for path in ("/etc/passwd", str(ROOT / "app.py"), "../app.py"):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{server.url}/gradio_api/file={path}")
        assert error.value.code in (403, 404)
