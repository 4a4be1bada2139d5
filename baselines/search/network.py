"""One network in three forms: a vector of the question, vectors of the items, and their dot product.

              the question's vector                                         an item's vector
    DSSM      query text                                                    title text
    TwoTower  user + transformer over item ids + text of their titles       item id + title text
              + query text, where training questions have any
    TEM       transformer over query and items, read at the query's place   item id + title text

Parts are summed, so a part that is unknown is left out: its vector is zero. A text is the mean of its pieces' vectors
and layers above it; the pieces' vectors are shared between the towers, the layers are not. In a history the item's id
vector is the one of the item tower, and places are counted back from the last item.

Deviations. InstructRec's DSSM and two-tower model read text with a pretrained BERT; here text is learned from the task
alone. TwoTower reads the query, which InstructRec's matching module need not. DSSM compares by dot product, not by
cosine. TEM (Bi et al. 2020) makes item vectors by predicting the words of reviews; here their titles are read.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from baselines.search.material import Material
from baselines.search.settings import Learning


class Items(NamedTuple):
    """Some items, row 0 of which is nothing."""

    ids: Tensor
    """Shape (items, size): vectors of their ids, zero where unknown."""
    texts: Tensor
    """Shape (items, size): means over the pieces of their titles."""
    vectors: Tensor
    """Shape (items, size): what a question's vector is compared with."""


class Text(nn.Module):  # type: ignore[misc]  # its library is untyped
    """Layers above a mean of pieces. Without biases, so that a text without a known piece stays zero."""

    def __init__(self, size: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(size, size, bias=False) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)

    def forward(self, mean: Tensor) -> Tensor:
        for layer in self.layers:
            mean = mean + self.dropout(torch.tanh(layer(mean)))
        return mean


class Layer(nn.Module):  # type: ignore[misc]  # its library is untyped
    """One layer of a transformer, normalised before each part."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.share = heads, dropout
        self.asking, self.shown, self.joined = nn.Linear(size, size), nn.Linear(size, 2 * size), nn.Linear(size, size)
        self.norm, self.last_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.wide, self.narrow, self.dropout = nn.Linear(size, 4 * size), nn.Linear(4 * size, size), nn.Dropout(dropout)

    def forward(self, sequence: Tensor, wanted: Tensor, present: Tensor) -> Tensor:
        """What becomes of the places `wanted`, whose vectors are the first of `sequence`. Only they are computed, so
        that the last layer costs no more than what is read of it."""
        keys, values = self.shown(self.norm(sequence)).chunk(2, dim=-1)
        query, keys, values = (self._split(part) for part in (self.asking(self.norm(wanted)), keys, values))
        share = self.share if self.training else 0.0
        mixed = scaled_dot_product_attention(query, keys, values, present[:, None, None], dropout_p=share)
        found = wanted + self.dropout(self.joined(mixed.transpose(1, 2).flatten(2)))
        return found + self.dropout(self.narrow(self.dropout(gelu(self.wide(self.last_norm(found))))))

    def _split(self, part: Tensor) -> Tensor:
        return part.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Network(nn.Module):  # type: ignore[misc]  # its library is untyped
    def __init__(self, model: str, set_to: Learning, learned: Material) -> None:
        super().__init__()
        size, self.model = set_to.embedding, model
        self.ids, self.query_read = model != "DSSM", model != "TwoTower" or learned.contexts
        self.pieces = nn.EmbeddingBag(len(learned.words) + 1, size, mode="mean", padding_idx=0)
        nn.init.normal_(self.pieces.weight, std=0.5)
        self.title = Text(size, set_to.text_layers, set_to.dropout)
        if self.ids:
            self.item = _table(len(learned.items) + 1, size)
            self.place = nn.Embedding(set_to.max_history + 1, size)
            nn.init.normal_(self.place.weight, std=size**-0.5)
            self.layers = nn.ModuleList(Layer(size, set_to.heads, set_to.dropout) for _ in range(set_to.layers))
            self.norm = nn.LayerNorm(size)
        if self.query_read:
            self.query = Text(size, set_to.text_layers, set_to.dropout)
        if model == "TwoTower":
            self.user = _table(len(learned.users) + 1, size)
            self.told = Text(size, set_to.text_layers, set_to.dropout)
        with torch.no_grad():
            self.pieces.weight[0] = 0

    def items(self, titles: Tensor, codes: Tensor) -> Items:
        """`titles`: pieces, shape (items, longest); `codes`: shape (items,), 0 where the id is to stay unknown."""
        texts = self.pieces(titles)
        vectors = self.title(texts)
        ids = self.item(codes) if self.ids else torch.zeros_like(vectors)
        return Items(ids, texts, vectors + ids)

    def questions(self, user: Tensor, history: Tensor, query: Tensor, items: Items) -> Tensor:
        """Vectors of questions, shape (questions, size).

        `user`: codes; `history`: rows of `items`, the last item first, 0 behind; `query`: pieces. A history without
        an item is read as one empty place.
        """
        asked: Tensor = self.query(self.pieces(query)) if self.query_read else 0.0
        if self.model == "DSSM":
            return asked
        absent = history == 0
        if self.model == "TEM":
            whole = torch.cat([asked.unsqueeze(1), items.vectors[history]], dim=1)
            return self._read(whole, torch.cat([torch.zeros_like(absent[:, :1]), absent], dim=1))
        told = items.texts[history].sum(1) / (~absent).sum(1, keepdim=True).clamp(min=1)
        alone = absent.clone()
        alone[:, 0] = False
        return self.user(user) + self._read(items.ids[history], alone) + self.told(told) + asked

    def _read(self, sequence: Tensor, absent: Tensor) -> Tensor:
        """What the transformer makes of the first place."""
        found = sequence + self.place.weight[: sequence.shape[1]]
        for number, layer in enumerate(self.layers, 1):
            found = layer(found, found[:, :1] if number == len(self.layers) else found, ~absent)
        return self.norm(found[:, 0])


def _table(rows: int, size: int) -> nn.Embedding:
    """Vectors of length one or so; that of row 0 is zero and stays it."""
    table = nn.Embedding(rows, size, padding_idx=0)
    nn.init.normal_(table.weight, std=size**-0.5)
    with torch.no_grad():
        table.weight[0] = 0
    return table
