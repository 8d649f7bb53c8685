"use strict";
// Figures: plain data from the page, drawn with ECharts in the page's own colours (CSS variables).
const figures = JSON.parse(document.getElementById("figuredata").textContent);
const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const font = getComputedStyle(document.body).fontFamily;

function short(value) { // as in the tables
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const text = size >= 1e6 || (size > 0 && size < 1e-3) ? value.toExponential(1).replace(".0e", "e").replace("e+", "e") : `${+value.toPrecision(4)}`;
  return text.replace("-", "−");
}
const plain = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const spread = (low, high) => (low === null || high === null || low === high ? "" : ` <small>(${short(low)} to ${short(high)})</small>`);
const dot = (colour) => `<span style="display:inline-block;width:.6em;height:.6em;border-radius:50%;margin-right:.4em;background:${css(`--${colour}`)}"></span>`;

function look() {
  const [ink, soft, line, raised, ground] = ["--ink", "--soft", "--line", "--raised", "--ground"].map(css);
  const text = { color: ink, fontFamily: font, fontSize: 12 };
  return {
    ink, soft, line, ground,
    base: {
      animation: false, textStyle: text,
      tooltip: { backgroundColor: raised, borderColor: line, textStyle: text, confine: true, extraCssText: "box-shadow:0 2px 12px #0003;max-width:20rem;white-space:normal" },
    },
    axis: (axis, gap, more) => ({
      type: axis.log ? "log" : "value", name: axis.name, nameLocation: "middle", nameGap: gap, scale: true,
      nameTextStyle: { color: soft }, axisLine: { show: true, lineStyle: { color: line } }, axisTick: { show: false },
      axisLabel: { color: soft, hideOverlap: true, formatter: short }, splitLine: { lineStyle: { color: line, opacity: 0.7 } }, ...more,
    }),
  };
}

const segments = (points) => { // runs of points without a gap
  const runs = [[]];
  for (const point of points) point[1] === null ? runs.push([]) : runs[runs.length - 1].push(point);
  return runs.filter((run) => run.length);
};

function bandSeries(line, colour) {
  const runs = segments(line.points).map((run) => run.filter((p) => p[2] !== null && p[3] !== null)).filter((run) => run.length > 1);
  return {
    type: "custom", silent: true, z: 1, clip: true, tooltip: { show: false }, data: runs.map((run) => [run[0][0], run[0][1]]),
    renderItem: (params, api) => {
      const run = runs[params.dataIndex];
      const points = [...run.map((p) => [p[0], p[3]]), ...run.map((p) => [p[0], p[2]]).reverse()];
      return { type: "polygon", shape: { points: points.map((p) => api.coord(p)) }, style: { fill: colour, opacity: 0.15 } };
    },
  };
}

function decade(value, up) { // the nearest 1, 2 or 5 of a power of ten, outwards
  const ten = 10 ** Math.floor(Math.log10(value) + 1e-9);
  const steps = [1, 2, 5, 10].map((step) => +(step * ten).toPrecision(6));
  return up ? steps.find((step) => step >= value) ?? steps[3] : steps.reverse().find((step) => step <= value) ?? steps[3];
}

function drawCurve(panel, state, style) {
  const lines = panel.lines.filter((line) => !state.hidden.has(line.name));
  const xs = panel.lines.flatMap((line) => line.points.map((p) => p[0]));
  const across = { min: Math.min(...xs), max: Math.max(...xs) };
  const dots = panel.lines.every((line) => line.points.length <= 20);
  const series = [{ type: "line", silent: true, symbol: "none", lineStyle: { opacity: 0 }, data: panel.extent.map((y) => [across.min, y]) }];
  for (const line of lines) {
    const colour = css(`--${line.colour}`);
    if (state.seeds) {
      for (const seed of line.seeds) series.push({ type: "line", silent: true, symbol: "none", z: 2, data: seed, lineStyle: { color: colour, width: 1, opacity: 0.45 } });
    }
    series.push(bandSeries(line, colour));
    series.push({
      type: "line", name: line.name, data: line.points.map((p) => [p[0], p[1]]), z: 3, symbol: line.symbol, symbolSize: 6,
      showSymbol: dots, lineStyle: { color: colour, width: 2, type: line.dash }, itemStyle: { color: colour },
    });
  }
  const flat = across.min === across.max ? {} : across;
  const tooltip = { ...style.base.tooltip, trigger: "axis", axisPointer: { lineStyle: { color: style.soft } }, formatter: (items) => {
    const at = items.length ? items[0].value[0] : null;
    const rows = lines.map((line) => ({ line, point: line.points.find((p) => p[0] === at) })).filter((row) => row.point && row.point[1] !== null);
    rows.sort((a, b) => b.point[1] - a.point[1]);
    return rows.length ? [`${plain(panel.x.name)} ${short(at)}`, ...rows.map(({ line, point }) => `${dot(line.colour)}${plain(line.name)} <b>${short(point[1])}</b>${spread(point[2], point[3])}`)].join("<br>") : "";
  } };
  return {
    ...style.base, tooltip, grid: { left: 62, right: 16, top: 12, bottom: 46 }, series,
    xAxis: style.axis(panel.x, 28, { ...flat, splitLine: { show: false } }), yAxis: style.axis(panel.y, 46, panel.y.log ? { min: decade(panel.extent[0], false), max: decade(panel.extent[1], true) } : {}),
  };
}

function drawBars(panel, state, style) {
  const names = panel.bars.map((bar) => bar.name);
  const value = (bar, i) => ({ value: panel.zero ? bar.value[0] : [bar.value[0], i], itemStyle: { color: css(`--${bar.colour}`) } });
  const whiskers = {
    type: "custom", silent: true, z: 5, clip: true, encode: { x: [1, 2], y: 0 },
    data: panel.bars.map((bar, i) => [i, bar.value[1] ?? bar.value[0], bar.value[2] ?? bar.value[0]]),
    renderItem: (params, api) => {
      const [low, high] = [1, 2].map((k) => api.coord([api.value(k), api.value(0)]));
      if (low[0] === high[0]) return null;
      const parts = [[...low, ...high], ...[low, high].map((p) => [p[0], p[1] - 5, p[0], p[1] + 5])];
      const stroke = (colour, lineWidth) => parts.map(([x1, y1, x2, y2]) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: colour, lineWidth } }));
      return { type: "group", children: [...stroke(style.ground, 4), ...stroke(style.ink, 1.5)] }; // edged, to be seen on any bar
    },
  };
  const wide = Math.min(Math.max(...names.map((name) => name.length)) * 7 + 14, state.width * 0.36);
  const side = { type: "category", inverse: true, axisTick: { show: false }, axisLine: { show: false }, splitLine: { show: false } };
  const name = panel.zero ? panel.x.name : `${panel.x.name} (the axis does not start at 0)`;
  const tooltip = { ...style.base.tooltip, trigger: "axis", axisPointer: { type: "none" }, formatter: (items) => {
    const bar = panel.bars[items[0].dataIndex];
    return `${dot(bar.colour)}${plain(bar.name)} <b>${short(bar.value[0])}</b>${spread(bar.value[1], bar.value[2])}`;
  } };
  return {
    ...style.base, tooltip, grid: { left: wide, right: 70, top: 6, bottom: 46 },
    xAxis: style.axis({ name }, 28, { scale: !panel.zero, axisLine: { show: false } }),
    yAxis: [
      { ...side, data: names, axisLabel: { color: style.ink, interval: 0, width: wide - 14, overflow: "truncate" } },
      { ...side, data: panel.bars.map((bar) => short(bar.value[0])), position: "right", axisLabel: { color: style.soft, interval: 0 } },
    ],
    series: [panel.zero ? { type: "bar", barMaxWidth: 18, data: panel.bars.map(value) } : { type: "scatter", symbolSize: 12, z: 6, data: panel.bars.map(value) }, whiskers],
  };
}

function drawScatter(panel, state, style) {
  const points = panel.points.filter((point) => !state.hidden.has(point.name));
  const xs = panel.points.map((point) => point.x[0]);
  const middle = (Math.min(...xs) + Math.max(...xs)) / 2;
  const reach = (side) => [side[1] ?? side[0], side[2] ?? side[0]];
  const crosses = {
    type: "custom", silent: true, z: 1, clip: true, encode: { x: [0, 2, 3], y: [1, 4, 5] },
    data: points.map((point) => [point.x[0], point.y[0], ...reach(point.x), ...reach(point.y)]),
    renderItem: (params, api) => {
      const v = (k) => api.value(k);
      const stroke = (a, b) => ({ type: "line", shape: { x1: a[0], y1: a[1], x2: b[0], y2: b[1] }, style: { stroke: css(`--${points[params.dataIndex].colour}`), lineWidth: 1.5, opacity: 0.6 } });
      return { type: "group", children: [stroke(api.coord([v(2), v(1)]), api.coord([v(3), v(1)])), stroke(api.coord([v(0), v(4)]), api.coord([v(0), v(5)]))] };
    },
  };
  const tooltip = { ...style.base.tooltip, trigger: "item", formatter: (item) => {
    const point = points[item.dataIndex];
    return [`${dot(point.colour)}<b>${plain(point.name)}</b>`, ...["x", "y"].map((k) => `${plain(panel[k].name)} <b>${short(point[k][0])}</b>${spread(point[k][1], point[k][2])}`)].join("<br>");
  } };
  return {
    ...style.base, tooltip, grid: { left: 62, right: 20, top: 14, bottom: 46 }, xAxis: style.axis(panel.x, 28, { splitLine: { show: false } }), yAxis: style.axis(panel.y, 46),
    series: [crosses, {
      type: "scatter", symbolSize: 12, z: 3, labelLayout: { hideOverlap: true },
      data: points.map((point) => ({
        value: [point.x[0], point.y[0]], symbol: point.symbol, itemStyle: { color: css(`--${point.colour}`), opacity: 1 },
        label: { show: state.width > 420, color: style.ink, position: point.x[0] > middle ? "left" : "right", distance: 8, formatter: () => point.name },
      })),
    }],
  };
}

function drawHeatmap(panel, state, style) {
  const side = (axis, gap) => ({
    type: "category", data: axis.labels, name: axis.name, nameLocation: "middle", nameGap: gap, nameTextStyle: { color: style.soft },
    axisTick: { show: false }, axisLine: { lineStyle: { color: style.line } },
    axisLabel: { color: style.soft, hideOverlap: true, formatter: (text) => (text === "" || isNaN(text) ? text : short(+text)) },
  });
  const longest = Math.max(...panel.y.labels.map((text) => (isNaN(text) ? text.length : Math.min(text.length, 6))));
  const left = Math.min(30 + 7 * longest, state.width * 0.4);
  const scale = panel.diverging
    ? ["#2166ac", "#92c5de", isDark() ? "#2b3238" : "#f4f4f4", "#f4a582", "#b2182b"]
    : ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"];
  const tooltip = { ...style.base.tooltip, formatter: (item) => `${plain(panel.x.name)} ${plain(panel.x.labels[item.value[0]])}, ${plain(panel.y.name)} ${plain(panel.y.labels[item.value[1]])}<br><b>${short(item.value[2])}</b>` };
  return {
    ...style.base, tooltip, grid: { left: left + 12, right: 78, top: 8, bottom: 46 }, xAxis: side(panel.x, 28), yAxis: side(panel.y, left - 4),
    visualMap: {
      min: panel.range[0], max: panel.range[1], calculable: false, right: 0, top: "middle", itemHeight: 150, itemWidth: 12, precision: 4,
      text: [short(panel.range[1]), short(panel.range[0])], textStyle: { color: style.soft }, inRange: { color: scale },
    },
    series: [{ type: "heatmap", data: panel.cells, progressive: 0, emphasis: { itemStyle: { borderColor: style.ink, borderWidth: 1 } } }],
  };
}

const draw = { curve: drawCurve, bars: drawBars, scatter: drawScatter, heatmap: drawHeatmap };
const boxes = [];
for (const figure of document.querySelectorAll("figure[data-of]")) {
  const state = { hidden: new Set(), seeds: false, width: 0 };
  const own = [...figure.querySelectorAll(".chart")].map((box) => {
    const panel = figures[+figure.dataset.of].panels[+box.dataset.panel];
    // vectors print well; maps of many cells are lighter as a picture
    const chart = echarts.init(box, null, { renderer: panel.kind === "heatmap" ? "canvas" : "svg" });
    return { box, panel, chart, state };
  });
  boxes.push(...own);
  for (const button of figure.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      state.hidden[on ? "delete" : "add"](button.dataset.line);
      own.forEach(show);
    });
  }
  figure.querySelector(".seeds input")?.addEventListener("change", (event) => {
    state.seeds = event.target.checked;
    own.forEach(show);
  });
}

function show({ box, panel, chart, state }) {
  state.width = box.clientWidth;
  chart.setOption(draw[panel.kind](panel, state, look()), true);
  box.dataset.drawn = "";
}
const showAll = () => boxes.forEach(show);
const fit = (width) => boxes.forEach((item) => item.chart.resize(width ? { width: Math.min(width, item.box.clientWidth) } : undefined));
showAll();
addEventListener("themechange", showAll);
let waiting = 0;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => { fit(); showAll(); }, 80); });
addEventListener("beforeprint", () => fit(640));
addEventListener("afterprint", () => fit());
