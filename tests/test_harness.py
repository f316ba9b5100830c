"""lm-evaluation-harness runs its tasks on an M+ model; what does not fit the window goes through memory."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.toys import toy_checkpoints

pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install -e .[harness]")
torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{text}}}}"
doc_to_target: "{{{{answer}}}}"
{more}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("harness")
    toy_checkpoints(root)
    rows = [{"text": "It was a fine day. " * 3, "answer": " yes"}, {"text": "Nobody came. " * 40, "answer": " no"}]
    (root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    more = {"loglikelihood": "", "loglikelihood_rolling": "metric_list: [{metric: bits_per_byte}]",
            "generate_until": "generation_kwargs: {until: ['.'], max_gen_toks: 5}"}  # fmt: skip
    for kind, text in more.items():
        given = TASK.format(name=kind, data=root / "rows.jsonl", kind=kind, more=text)
        if kind == "loglikelihood_rolling":
            given = given.replace('doc_to_text: "{{text}}"\ndoc_to_target: "{{answer}}"',
                                  'doc_to_text: ""\ndoc_to_target: "{{text}}"')  # fmt: skip
        (root / f"{kind}.yaml").write_text(given)
    return root


def test_the_command_runs_all_three_kinds_of_tasks(root, tmp_path):
    line = [sys.executable, "-m", "core.evaluation.harness", "run", "--model", "mplus", "--model_args",
            f"pretrained={root / 'mplus'},window=120", "--include_path", str(root), "--output_path", str(tmp_path),
            "--tasks", "loglikelihood,loglikelihood_rolling,generate_until"]  # fmt: skip
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(next(tmp_path.rglob("results*.json")).read_text())["results"]
    assert set(results) == {"loglikelihood", "loglikelihood_rolling", "generate_until"}
    assert results["loglikelihood_rolling"]["bits_per_byte,none"] > 0


def test_likelihoods_are_the_models_and_memory_is_reset(root):
    from core.evaluation.harness import MPlusLM

    lm = MPlusLM(str(root / "mplus"), window=120)
    request = [SimpleNamespace(args=("It was a fine day.", " yes"))]
    (first,), (again,) = lm.loglikelihood(request, disable_tqdm=True), lm.loglikelihood(request, disable_tqdm=True)
    assert first == again and first[0] < 0
    long = [SimpleNamespace(args=("Nobody came. " * 40, " no"))]
    (behind,) = lm.loglikelihood(long, disable_tqdm=True)
    short = [SimpleNamespace(args=(("Nobody came. " * 40)[-117:], " no"))]
    (alone,) = lm.loglikelihood(short, disable_tqdm=True)
    assert behind[0] != alone[0]  # the same window, behind another memory
    assert lm.loglikelihood(request, disable_tqdm=True) == [first]
    ids = lm.tok_encode("It was")
    parts = [lm.score([lm.eot_token_id, *ids[: end + 1]], 1)[0] for end in range(len(ids))]
    lm.reader.reset()
    whole = lm.loglikelihood_rolling([SimpleNamespace(args=("It was",))], disable_tqdm=True)[0]
    assert whole == pytest.approx(sum(parts), abs=1e-3)
    with pytest.raises(ValueError, match="does not fit the window"):
        lm.score(list(range(300)), 200)
