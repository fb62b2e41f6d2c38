# The PyTorch originals of examples/torch, and the losses of their first ten steps: torch-losses.json.
# Run with PyTorch: python3 tests/examples/torch_losses.py. Everything is float64 from float32 weights and data.
import json, math, pathlib, re
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

here = pathlib.Path(__file__).parent
torch.set_default_dtype(torch.float64)
torch.set_num_threads(2)


def uniform(seed, n, low=0.0, high=1.0):
    i = np.arange(1, n + 1, dtype=np.uint64)
    m = np.uint64(0xFFFFFFFF)
    s = (np.uint64(seed % 2**32) + i * np.uint64(0x6D2B79F5)) & m
    t = ((s ^ (s >> np.uint64(15))) * (s | np.uint64(1))) & m
    t = ((t + ((t ^ (t >> np.uint64(7))) * (t | np.uint64(61)) & m)) & m) ^ t
    x = low + (high - low) * ((t ^ (t >> np.uint64(14))) & m).astype(np.float64) / 2**32
    return x.astype(np.float32).astype(np.float64)


def integers(seed, n, below):
    return np.minimum(below - 1, np.floor(uniform(seed, n) * below)).astype(np.int64)


def fill(model):
    """The weights that tests/examples/examples.test.ts gives its models."""
    with torch.no_grad():
        for k, (name, p) in enumerate(sorted(model.named_parameters())):
            fan = p.numel() // p.shape[0] if p.ndim > 1 else 100
            base = 1.0 if p.ndim == 1 and name.endswith("weight") else 0.0
            p.copy_(torch.tensor((base + uniform(7000 + k, p.numel(), -1, 1) / math.sqrt(fan)).astype(np.float32).astype(np.float64)).view(p.shape))


class CausalSelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = [t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in self.c_attn(x).split(C, dim=2)]
        att = (q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))
        att = att.masked_fill(torch.ones(T, T).tril() == 0, float("-inf"))
        y = F.softmax(att, dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = CausalSelfAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, vocab, block=64, layers=3, heads=4, width=64):
        super().__init__()
        self.wte = nn.Embedding(vocab, width)
        self.wpe = nn.Embedding(block, width)
        self.h = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.t()


def nanogpt():
    source = (here / "../../examples/torch/sonnet.ts").read_text()
    text = re.search(r"`(.*)`", source, re.S)[1]
    chars = sorted(set(text))
    data = torch.tensor([chars.index(c) for c in text])
    model = GPT(len(chars))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)

    def step(i):
        starts = integers(i, 16, len(text) - 65)
        x, y = [torch.stack([data[s + d : s + d + 64] for s in starts]) for d in (0, 1)]
        return F.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return model, optimizer, step, 1.0


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(12, 32)
        self.lstm = nn.LSTM(32, 64, batch_first=True)
        self.tag = nn.Linear(64, 2)

    def forward(self, ids):
        return self.tag(self.lstm(self.embed(ids))[0])


def tagger():
    model = Tagger()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def step(i):
        ids = integers(1000 + i, 32 * 16, 12).reshape(32, 16)
        tags = [[int(row[t] in row[:t]) for t in range(16)] for row in ids]
        return F.cross_entropy(model(torch.tensor(ids)).flatten(0, 1), torch.tensor(tags).flatten())

    return model, optimizer, step, None


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(400, 128)
        self.fc21 = nn.Linear(128, 8)
        self.fc22 = nn.Linear(128, 8)
        self.fc3 = nn.Linear(8, 128)
        self.fc4 = nn.Linear(128, 400)

    def forward(self, x, noise):
        h = F.relu(self.fc1(x))
        mu, logvar = self.fc21(h), self.fc22(h)
        z = mu + noise * torch.exp(0.5 * logvar)
        return self.fc4(F.relu(self.fc3(z))), mu, logvar


def vae():
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(i):
        random = uniform(2000 + i, 3 * 64).reshape(64, 3)
        y, x = np.mgrid[0:20, 0:20]
        discs = [((x - 5 - 10 * a) ** 2 + (y - 5 - 10 * b) ** 2 < (2 + 3 * c) ** 2).reshape(-1) for a, b, c in random]
        x = torch.tensor(np.array(discs), dtype=torch.float64)
        noise = torch.tensor(uniform(5000 + i, 64 * 8, -1.7, 1.7)).view(64, 8)
        logits, mu, logvar = model(x, noise)
        loss = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return loss - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())

    return model, optimizer, step, None


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        stage = lambda a, b, s: nn.Sequential(BasicBlock(a, b, s), BasicBlock(b, b, 1))
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1, self.layer2 = stage(64, 64, 1), stage(64, 128, 2)
        self.layer3, self.layer4 = stage(128, 256, 2), stage(256, 512, 2)
        self.linear = nn.Linear(512, 10)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            y = layer(y)
        return self.linear(y.mean((2, 3)))


def resnet():
    model = ResNet18()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)

    def step(i):
        labels = integers(3000 + i, 4, 10)
        noise = uniform(4000 + i, 4 * 3 * 32 * 32, -0.5, 0.5).reshape(4, 3, 32, 32)
        y, x = np.mgrid[0:32, 0:32]
        angle = (math.pi * labels / 10)[:, None, None, None]
        c = np.arange(3)[None, :, None, None]
        waves = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 0.8 + c * labels[:, None, None, None])
        pixels = (noise + waves).astype(np.float32).astype(np.float64)
        return F.cross_entropy(model(torch.tensor(pixels)), torch.tensor(labels))

    return model, optimizer, step, None


def losses(make):
    model, optimizer, step, max_norm = make()
    fill(model)
    found = []
    for i in range(10):
        loss = step(i)
        optimizer.zero_grad()
        loss.backward()
        if max_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        found.append(loss.item())
    return found


result = {make.__name__: losses(make) for make in (nanogpt, tagger, vae, resnet)}
(here / "torch-losses.json").write_text(json.dumps(result, indent=1) + "\n")
