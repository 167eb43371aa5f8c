"""The version of every recipe and pass: part of the key under which its result is stored.

Raise a version by hand when the result changes (other weights, another training, another graph):
stores then build the artefact again. A change that leaves the result as it was keeps the version,
and nobody builds anything again. A new recipe begins with ``"1"``.

The hexadecimal versions are the former keys (a hash of the code, on Python 3.11), kept so that
what was built under them is found; the next version of such a recipe is ``"2"``.
"""

from __future__ import annotations

from collections.abc import Mapping

RECIPE_VERSIONS: Mapping[str, str] = {
    "efficientnet-lite": "87b11f36b7470a976a243e91c7816da2b027a8964638e47bc5afff28bf5a987e",
    "fraud": "34d4b4fcd8e8e54a7418847a627e256ff4edba3216732e27d5f0c7361674f9ce",
    "hub": "fe64798075aeb0439bad3f71934b16c9f931b557f7fb76ce5cd285c131ecd63e",
    "minilm": "ae0684c491627764643676677fadcec78c39bda4c6e3bf8b27e5cef1adeafe31",
    "minilm-int8": "c363a42228b6f813f32a8d44b2a0fb9fbc28199f8bf583822cd14ab7e09dd484",
    "shop-cards": "b66e2280d08bc1b2e193ac24830fd694a45341132aa5621ab58bf03dc429e7b1",
    "shop-classifier": "c806be924c97cbe73c0b9a6c1f5418094d8ddef0a588c9d4aa6e0f04df32c441",
    "shop-embedder": "da3861984e042273848e825490b8c78d80489867510b58e6e9fddb61176894a9",
    "shop-index": "7f25641025130f1efacc2286be718a34c34988fd7e0f4c03d2c561248b9727ec",
    "shop-ranker": "21182b4a7d6a9c6a462a61db25fcd8fc8cb6e521cb13d8275e794849c48c6a36",
    "shop-recommender": "374f3ab7878444636a734864cdf68566ee15853b6277c6133ab51bc2e318cfd4",
    "shop-reranker": "9b21fd459bfd9013d218b646fd8f714b0a3b58f0eeec2696b6f4946d6adf5ed0",
    "shop-risk": "50bd150c59badc044b0ae5cb7fa4f9a302ceba0523e7a0dd07771e52b42882f1",
    "smollm2": "582d96bdcfa1fd3ad4aed1d7f4d89094ee88303d91c16e1cf13080de6cad15b9",
    "smollm2-genai": "e8f94d4b0f9a57870ca68f7a88c1d7569afc475b84cc6dc0ff67a6e54d94c4c4",
}

PASS_VERSIONS: Mapping[str, str] = {
    "fp16": "adae9b0c07ce92771dd860c14cf2739831305ba2a97dde7cb9ae3b24af2273f1",
    "graph": "9108b6d5dbe315c44a255dcc93705150e9bcc82051e40eb5726c8a20f5567d0a",
    "int8": "c3735429bf3eb67d2b92b974e94fd1f437a8e0cac2f6bdb6b7d7badc24807847",
    "int8-dynamic": "b3eb471495c85d5ec1c362fc5ce592595d16cbf2d84ac6f9454b119510590e37",
    "int8-mixed": "72e0e7b3efcd19235557e3a86eb55e1cc465e33136d809b5fae072afea83bf15",
    "tensorrt": "63a38756a45a45cab9a85e29ef5ed34ce1898ec0d354e290cf96809ddcdc431b",
}
