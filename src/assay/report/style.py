"""The look of the page: one sheet for both themes and paper. Pictures and text share its colour variables."""

from __future__ import annotations

# Arms in order of appearance, (light, dark): hue for the eye, marker for the colour-blind.
ARM_COLOURS = (
    ("#0b63a5", "#6cb4ee"),  # blue
    ("#c2470a", "#f59a5c"),  # vermilion
    ("#0a7d5c", "#4fcfa4"),  # green
    ("#a3478a", "#e39bcd"),  # purple
    ("#8a6d00", "#e0c04a"),  # ochre
    ("#3d4fb8", "#a3b0ff"),  # indigo
    ("#b0243f", "#ff8fa3"),  # crimson
    ("#2f7f8c", "#72d0df"),  # teal
)
ARM_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
CONTROL_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")

INK = {"ink": ("#1c1f24", "#e9e6df"), "quiet": ("#63666d", "#a09d96"), "rule": ("#dcd9d1", "#3a3d44"),
       "control": ("#85878c", "#8f9096"), "paper": ("#fbfaf7", "#16181c"), "card": ("#ffffff", "#1d2025")}  # fmt: skip


def variables(dark: bool) -> str:
    """CSS custom properties of one theme."""
    side = 1 if dark else 0
    pairs = {name: values[side] for name, values in INK.items()}
    pairs |= {f"arm-{i}": values[side] for i, values in enumerate(ARM_COLOURS)}
    pairs |= {
        "accent": ("#9a6b00", "#e2b65a")[side], "wash": ("#f3f0e8", "#22252b")[side],
        "good": ("#0b6b45", "#6fdcaa")[side], "good-wash": ("#dcf3e6", "#12382a")[side],
        "bad": ("#a02234", "#ff9aa6")[side], "bad-wash": ("#fbe3e4", "#43191f")[side],
        "even": ("#6b5300", "#ead07a")[side], "even-wash": ("#f6edcf", "#3a3014")[side],
        "mute": ("#565960", "#b1aea7")[side], "mute-wash": ("#eceae4", "#2c2f36")[side],
        "hot": ("#f2a43a", "#b96f0c")[side], "cold": ("#64a6e8", "#2c67a8")[side],
    }  # fmt: skip
    return ";".join(f"--{name}:{value}" for name, value in pairs.items())


_SHEET = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.6 var(--sans)}
main,header.top,footer{max-width:72rem;margin:0 auto;padding:0 1.5rem}
header.top{padding-top:3.2rem}
.brand{font:600 .8rem/1 var(--sans);letter-spacing:.14em;text-transform:uppercase;color:var(--accent);margin:0 0 1rem}
h1{font:600 2.15rem/1.18 var(--serif);margin:0 0 .8rem;max-width:46rem;text-wrap:balance}
h2{font:600 1.42rem/1.25 var(--serif);margin:3.2rem 0 .5rem;padding-top:1rem;border-top:1px solid var(--rule)}
h3{font:600 1.05rem/1.35 var(--sans);margin:1.8rem 0 .4rem}
p{margin:.5rem 0;max-width:46rem}
.lede{font-size:1.1rem;line-height:1.55}
.quiet,figcaption,caption,.notes{color:var(--quiet)}
.quiet,figcaption,.notes,caption{font-size:.875rem}
a{color:inherit;text-decoration-color:var(--accent);text-underline-offset:.18em}
code,.mono{font:.86em/1.5 var(--mono)}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;padding:0;margin:1.4rem 0 0;font-size:.9rem}
nav a{text-decoration:none;color:var(--quiet)}nav a:hover{color:var(--ink);text-decoration:underline}
.findings{list-style:none;padding:0;margin:1.4rem 0;display:grid;gap:.7rem}
.findings li{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:.75rem 1rem;
max-width:60rem}
.findings li{max-width:60rem}.findings h3{margin:.1rem 0 .35rem;font-weight:400}.findings h3 .key{font-weight:600}
.findings dl{display:grid;grid-template-columns:minmax(7rem,14.5rem) 1fr;gap:.25rem 1rem;margin:.2rem 0}
.findings dt{font-weight:600}.findings dd{margin:0}.findings p{margin:.4rem 0 .1rem}
.findings b,.lede b{font-weight:600}
.care{border-left:3px solid var(--accent);background:var(--wash);border-radius:0 8px 8px 0;padding:.6rem 1rem;
margin:1.2rem 0;max-width:60rem}
.care h3{margin:.1rem 0}.care ul{margin:.3rem 0;padding-left:1.1rem}
figure{margin:1.2rem 0}
figcaption{max-width:46rem;margin-top:.3rem}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,25rem),1fr));gap:1rem 1.6rem;
align-items:start}
.pictures figure{margin:.6rem 0}
.pictures.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,16rem),1fr));gap:.4rem 1.4rem}
.reading{align-self:center}
svg{display:block;width:100%;height:auto;overflow:visible}
.legend{display:flex;flex-wrap:wrap;gap:.15rem 1.3rem;list-style:none;padding:0;margin:.8rem 0 .2rem;font-size:.9rem}
.key{white-space:nowrap}.key svg{width:1.5rem;height:.75rem;display:inline-block;margin-right:.35rem;
vertical-align:-.06em}
.scroll{overflow-x:auto;margin:.8rem 0;border:1px solid var(--rule);border-radius:8px;background:var(--card)}
.scroll:focus-visible{outline:2px solid var(--accent)}
table{border-collapse:collapse;width:100%;font-size:.875rem;line-height:1.4;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.7rem .8rem .3rem;caption-side:top}
th,td{padding:.38rem .7rem;text-align:right;vertical-align:baseline;white-space:nowrap}
th{font-weight:600}
thead th{white-space:normal;max-width:8.5rem;border-bottom:1px solid var(--rule);vertical-align:bottom;
color:var(--quiet);font-size:.8rem}
tbody tr+tr td,tbody tr+tr th{border-top:1px solid var(--rule)}
tbody tr.same td,tbody tr.same th{border-top-color:transparent}
th[scope=row],td.l,th.l{text-align:left}
th:first-child,td:first-child{text-align:left}
td.wrap{white-space:normal;text-align:left;min-width:16rem}
.ci{color:var(--quiet);font-size:.92em}
td .ci{display:block;font-size:.82em;line-height:1.2}
sup.mark{font-size:.72em;line-height:0}sup.mark a{text-decoration:none;color:var(--accent)}
.notes{margin:.4rem 0 1.2rem}.notes p{margin:.1rem 0;max-width:60rem}
.notes p:target{background:var(--wash)}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.pill{display:inline-block;border-radius:99px;padding:.04rem .6rem;font-weight:600;font-size:.82rem;line-height:1.5}
.beats{color:var(--good);background:var(--good-wash)}.loses{color:var(--bad);background:var(--bad-wash)}
.ties{color:var(--even);background:var(--even-wash)}.none{color:var(--mute);background:var(--mute-wash)}
details{border:1px solid var(--rule);border-radius:8px;background:var(--card);margin:.7rem 0;padding:0 1rem}
summary{cursor:pointer;padding:.6rem 0;font-weight:600}
summary .quiet{font-weight:400}
details ol,details ul{padding-left:1.2rem;font-size:.92rem}
details[open]>summary{border-bottom:1px solid var(--rule);margin-bottom:.6rem}
.latent{margin:.9rem 0 1.3rem}
.latent h4{font:600 .9rem/1.4 var(--sans);margin:0 0 .25rem}
.latent h4 .quiet{font-weight:400}
.context{font-size:.9rem;line-height:1.75;margin:0;padding:.22rem 0;border-top:1px solid var(--rule);max-width:none;
display:grid;grid-template-columns:3.6rem 1fr;gap:.6rem;overflow-wrap:anywhere}
.context .top{color:var(--quiet);font-size:.82rem;text-align:right;font-variant-numeric:tabular-nums}
.context .text{white-space:pre-wrap}
.context-key b{padding:.08em .2em}
.context b,.context-key b{font-weight:inherit;border-radius:3px;padding:.08em 0}
.ws{color:var(--quiet);opacity:.65;font-style:normal;font-size:.85em}
HEAT
dl.facts{display:grid;grid-template-columns:minmax(8rem,12rem) 1fr;gap:.25rem 1.2rem;font-size:.92rem}
dl.facts dt{color:var(--quiet)}dl.facts dd{margin:0;overflow-wrap:anywhere}
dl.words{display:grid;grid-template-columns:minmax(8rem,13rem) 1fr;gap:.45rem 1.2rem;font-size:.95rem;max-width:60rem}
dl.words dt{font-weight:600}dl.words dd{margin:0}
pre{font:.86rem/1.55 var(--mono);background:var(--wash);border-radius:8px;padding:.7rem 1rem;white-space:pre-wrap;
overflow-wrap:anywhere}
footer{margin-top:3.5rem;padding-top:1rem;padding-bottom:3rem;color:var(--quiet);font-size:.85rem}
@media (max-width:40rem){body{font-size:15px}h1{font-size:1.6rem}main,header.top,footer{padding-left:1rem;
padding-right:1rem}
header.top{padding-top:1.8rem}dl.facts,dl.words,.findings dl{grid-template-columns:1fr;gap:.05rem}
dl.facts dd,dl.words dd{margin-bottom:.5rem}
.context{grid-template-columns:1fr;gap:0}.context .top{text-align:left}}
@media print{@page{size:A4;margin:15mm 13mm}html,body{background:#fff}html{font-size:12px}body{font-size:1rem}
nav,.screen{display:none}
header.top,main,footer{max-width:none;padding:0}header.top{padding-top:0}h1{font-size:1.9rem}h2{margin-top:1.6rem}
h2,h3,h4,h2+p,h2+div>p:first-child,caption{break-after:avoid}
figure,.latent,.whole,.findings li,.care,tr{break-inside:avoid}
.scroll{overflow:visible;border:0;background:none}table{font-size:.8rem}thead th,.pill{font-size:.76rem}
th,td{padding:.16rem .3rem}thead{display:table-header-group}
#fidelity,#bias,#frequencies,#training,#arms .scroll,.words dd,.facts dd{break-inside:avoid}
td.wrap{min-width:0}details{border:0;padding:0;background:none}
.pictures{grid-template-columns:1fr 1fr}.pictures.small{grid-template-columns:1fr 1fr 1fr}
details:not([open]){display:none}a{text-decoration:none}
.pill,.context b,.care,.findings li,pre{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


def _heat() -> str:
    """Backgrounds of tokens: h1..h9 for positive activations, n1..n9 for negative ones (signed codes)."""
    rules = [
        f".{letter}{step}{{background:color-mix(in srgb,var(--{name}) {step * 10}%,transparent)}}"
        for letter, name in (("h", "hot"), ("n", "cold"))
        for step in range(1, 10)
    ]
    return "".join(rules)


def sheet() -> str:
    """The whole style sheet."""
    fonts = (
        '--sans:ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"Liberation Sans",'
        "sans-serif;"
        '--serif:ui-serif,"Iowan Old Style",Charter,"Palatino Linotype",Palatino,Georgia,"Liberation Serif",serif;'
        '--mono:ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace;'
    )
    return (
        f":root{{color-scheme:light dark;{fonts}{variables(dark=False)}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{variables(dark=True)}}}}}"
        + _SHEET.replace("HEAT", _heat())
    )
