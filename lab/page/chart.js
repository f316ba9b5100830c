// One chart: draws props.value (a plotly figure as JSON) with plotly.py's own plotly.js, and offers it as table and file.
const $ = (selector) => element.querySelector(selector);
const load = () => window.__mplus_plotly ??= new Promise((ok, no) => {
  const script = document.createElement('script');
  script.src = (window.gradio_config?.root ?? '').replace(/\/$/, '') + $('.ch').dataset.src;
  script.onload = () => ok(window.moduleName?.version ? window.moduleName : window.Plotly);
  script.onerror = () => no(Error('plotly.js is missing'));
  document.head.append(script);
});
const label = (value) => typeof value === 'number' ? String(+value.toPrecision(6)) : String(value ?? '');

const key = (trace) => trace.x?.[0] === null;         // nothing to draw: it names a colour of the map in the legend

function table() {           // [header, ...rows] of what is drawn, from any trace
  const rows = [];
  for (const trace of $('.pl')._fullData ?? []) {
    if (trace.type === 'heatmap') {
      if (!rows.length) rows.push(['layer', 'x', 'value', 'text']);
      if (trace.name === 'retrieved') continue;      // said again by the strip; the scores are in the rows
      trace.z.forEach((line, i) => Array.from(line).forEach((z, j) => { if (z === null || Number.isNaN(z)) return;
        rows.push([Math.round(trace.y?.[i] ?? i), trace.x?.[j] ?? j, z, trace.customdata?.[i]?.[j] ?? '']); })); }
    else if (trace.type === 'sankey') {
      rows.push(['from', 'to', 'tokens']);
      const l = trace.link, names = trace.node.label;
      Array.from(l.value).forEach((v, i) => rows.push([names[l.source[i]], names[l.target[i]], v])); }
    else if (trace.x && trace.y && trace.fill !== 'toself' && !key(trace)) {
      if (!rows.length) rows.push(['series', 'x', 'y']);
      Array.from(trace.x).forEach((x, i) => rows.push([trace.name, x, trace.y[i]])); }
  }
  return rows;
}
function save(name, kind, text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: kind})); link.download = name; link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 5000);
}
const csv = () => table().map((row) => row.map((v) => /[",\n]/.test(v = label(v)) ? `"${v.replaceAll('"', '""')}"` : v).join(',')).join('\n');
const off = new Set();       // names pressed off in the legend: they stay so when the chart is drawn anew
const show = (open = !$('.tb').hidden) => {          // the table, or nothing; as it was: with the rows of now
  const holder = $('.tb'), rows = open ? table() : [];
  holder.hidden = !open; $('[data-do=table]').setAttribute('aria-expanded', open);
  const grid = document.createElement('table');
  rows.slice(0, 401).forEach((row, i) => { const line = grid.insertRow();
    row.forEach((v) => { const cell = document.createElement(i ? 'td' : 'th'); cell.textContent = label(v); line.append(cell); }); });
  holder.replaceChildren(grid);
  if (rows.length > 401) holder.append(`The first 400 of ${rows.length - 1} rows; CSV has them all.`);
};
element.addEventListener('click', async (event) => {
  const what = event.target.closest('[data-do]')?.dataset.do;
  if (!what || !props.value) return;
  const name = 'mplus-' + $('.ch').id;
  if (what === 'table') show($('.tb').hidden);
  if (what === 'csv') save(name + '.csv', 'text/csv', csv());
  if (what === 'json') save(name + '.json', 'application/json', props.value);
  if (what === 'png') { const P = await load(), plot = $('.pl');
    await P.relayout(plot, {paper_bgcolor: getComputedStyle($('.ch')).backgroundColor});
    await P.downloadImage(plot, {format: 'png', filename: name, scale: 2});
    await P.relayout(plot, {paper_bgcolor: 'rgba(0,0,0,0)'}); }
});

function legend(figure) {    // in HTML, because plotly's own runs over the axis titles
  const box = $('.lg'), held = box.contains(document.activeElement) && document.activeElement.textContent;
  box.replaceChildren();
  const traces = (figure?.data ?? []).filter((t) => t.name && t.showlegend !== false && t.type !== 'heatmap');
  if (figure?.layout?.showlegend === false || traces.length < 2) return;
  for (const trace of traces) {
    const item = document.createElement(key(trace) ? 'span' : 'button'), swatch = document.createElement('i');
    if (!key(trace)) {
      item.type = 'button'; item.title = 'Show or hide'; item.setAttribute('aria-pressed', !off.has(trace.name));
      if (off.has(trace.name)) trace.visible = false;
      item.onclick = async () => { const shown = off.delete(trace.name);
        if (!shown) off.add(trace.name);
        item.setAttribute('aria-pressed', shown);
        await (await load()).restyle($('.pl'), {visible: shown}, [figure.data.indexOf(trace)]); show(); };
    }
    const hue = trace.marker?.color && typeof trace.marker.color === 'string' ? trace.marker.color : trace.line?.color;
    swatch.style.setProperty('--c', hue ?? '#888');
    if ((trace.line?.dash ?? 'solid') !== 'solid') swatch.className = 'dash';
    if (trace.marker?.pattern?.shape) swatch.className = 'striped';
    const said = document.createElement('span'); said.textContent = trace.name;
    item.append(swatch, said); box.append(item);
    if (trace.name === held) item.focus();           // the key that pressed it is still on it after the chart is drawn anew
  }
}

async function draw() {
  const plot = $('.pl'), figure = props.value ? JSON.parse(props.value) : null;
  $('.em').hidden = !!figure; $('.tools').hidden = !figure; plot.hidden = !figure;
  $('.say').textContent = figure?.layout?.meta?.finding ?? '';
  legend(figure);
  if (!figure) return show(false);
  plot.style.minHeight = `${figure.layout.height ?? 260}px`;
  const P = await load(), ink = getComputedStyle(element).color, grid = 'rgba(128,136,144,.22)', layout = figure.layout;
  Object.assign(layout, {paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', font: {...layout.font, color: ink, family: 'inherit'}});
  for (const key of Object.keys(layout)) if (/^[xy]axis/.test(key)) Object.assign(layout[key], {gridcolor: grid, linecolor: grid, tickcolor: grid});
  for (const shape of layout.shapes ?? []) (shape.line ??= {}).color ??= ink;
  const narrow = innerWidth < 600;
  layout.showlegend = false;
  for (const trace of figure.data) if (trace.type === 'sankey') trace.textfont = {color: ink, shadow: 'none', size: narrow ? 9 : 12};
  await P.react(plot, figure.data, layout, {displaylogo: false, showSendToCloud: false, displayModeBar: narrow ? false : 'hover',
    modeBarButtonsToRemove: ['lasso2d', 'select2d', 'toImage']});
  show();
  plot.dataset.drawn = String(+(plot.dataset.drawn ?? 0) + 1);
  if (!plot.__bound) { plot.__bound = true;
    plot.on('plotly_click', (event) => { const p = event.points[0];
      trigger('select', {index: [p.curveNumber, p.pointNumber ?? null], value: p.customdata ?? null, x: p.x ?? null, y: p.y ?? null}); }); }
}
draw(); watch('value', draw);
new ResizeObserver(async () => {     // of the window, of a phone that is turned, and of a tab that was closed meanwhile
  const plot = $('.pl'), P = plot._fullLayout && await load();
  if (P && plot.offsetWidth && plot.offsetWidth !== plot._fullLayout.width) P.Plots.resize(plot);
}).observe($('.pl'));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
