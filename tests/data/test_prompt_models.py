"""Language models as prompt expanders: a tiny causal model made on the spot, and a chat endpoint on loopback."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data.prompt_models import EndpointRewriterConfig, RulesConfig, TransformersRewriterConfig, load_rewriter
from data.prompts import tabletop
from model.errors import StageError


@pytest.fixture
def causal_model(tmp_path: Path) -> Path:
    words = ["<pad>", "<unk>", "a", "red", "ball", "rolls", "slowly"]
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>").save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            message = {"role": "assistant", "content": " a large red ball\nrolls "}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked
    server.shutdown()
    server.server_close()


def test_a_transformers_model_answers_alike_each_time(causal_model: Path) -> None:
    rewrite = load_rewriter(TransformersRewriterConfig(model=str(causal_model), max_new_tokens=4), "")
    answer = rewrite("a red ball")
    assert 0 < len(answer.split()) <= 4
    assert answer == rewrite("a red ball")


def test_an_endpoint_is_given_the_prompt_and_what_it_is_like(endpoint: tuple[str, list[dict[str, Any]]]) -> None:
    url, asked = endpoint
    rewrite = load_rewriter(EndpointRewriterConfig(base_url=url, model="m"), "")
    assert rewrite("a red ball", like="a blue ball on a dark floor") == "a large red ball rolls"
    said = asked[0]["messages"][1]["content"]
    assert "a red ball" in said
    assert "a blue ball on a dark floor" in said


def test_an_endpoint_out_of_reach_says_what_to_do() -> None:
    config = EndpointRewriterConfig(base_url="http://127.0.0.1:9/v1", model="m", timeout_s=1)
    with pytest.raises(StageError, match="--no-expand"):
        load_rewriter(config, "")("a red ball")


def test_rules_are_those_of_the_model() -> None:
    assert load_rewriter(RulesConfig(), "tabletop") is tabletop
