// Appended to a page by tests/it/page.rs: writes what the browser shows as lines of text.
const lines = [];
const say = (name, ...values) => lines.push([name + ':', ...values].join(' '));
const box = (element) => element.getBoundingClientRect();
const middle = (element) => (box(element).left + box(element).right) / 2;
const isNear = (one, other) => Math.abs(one - other) <= 1.5;
const visible = () => rows.filter((row) => box(row).height > 0);
const luminance = (color) => color.match(/[\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);

for (const name of names) say('column', name.innerText);
const lanes = [...document.querySelectorAll('.lanes i')];
say('columns are above their lanes', names.every((name, i) => isNear(middle(name), box(lanes[i]).left)));
say('columns are apart', names.slice(1).every((name, i) => box(names[i]).right <= box(name).left));
say('lanes reach the end', lanes.every((lane) => box(lane).bottom >= box(rows.at(-1)).bottom));

const arrows = rows.filter((row) => row.querySelector('.left, .right'));
say('arrows connect two lanes', arrows.every((row) => {
  const arrow = row.querySelector('b');
  const ends = [...row.classList].filter((name) => /^m\d+$/.test(name)).map((name) => box(lanes[name.slice(1)]).left);
  const points = contains(arrow, 'right') ? ends[1] > ends[0] : ends[1] < ends[0];
  return points && isNear(box(arrow).left, Math.min(...ends)) && isNear(box(arrow).right, Math.max(...ends));
}));
say('labels are within their arrows', arrows.every((row) => {
  const [arrow, label] = [box(row.querySelector('b')), box(row.querySelector('span'))];
  return label.width > 0 && label.left >= arrow.left && label.right <= arrow.right;
}));
for (const row of arrows) say('arrow', row.querySelector('b').className, row.querySelector('b').innerText);
for (const row of rows.filter((row) => contains(row, 'fault'))) say('fault', row.innerText.split('\n').at(-1));
say('rows go down', rows.slice(1).every((row, i) => box(row).top >= box(rows[i]).bottom - 0.5));
const times = rows.map((row) => Number(row.querySelector('time').innerText));
say('times go up', times.slice(1).every((time, i) => time >= times[i]));

for (const verdict of document.querySelectorAll('.verdict')) say('verdict', verdict.innerText);
say('verdict is below', box(document.getElementById('end')).top >= box(rows.at(-1)).bottom);
say('again', document.querySelector('code').innerText);
say('page fits', document.documentElement.scrollWidth <= innerWidth);
const style = getComputedStyle(document.body);
say('text is', luminance(style.color) > luminance(style.backgroundColor) + 300 ? 'light' :
  luminance(style.color) + 300 < luminance(style.backgroundColor) ? 'dark' : 'unreadable');

const calls = rows.filter((row) => contains(row, 'call')).length;
say('system calls', calls > 0 && visible().length === rows.length);
document.querySelector('[name=call]').click();
say('without system calls', visible().length === rows.length - calls);
search.value = 'HELLO';
search.dispatchEvent(new Event('input'));
say('with a text', visible().length > 0 && visible().every((row) => row.textContent.includes('hello')));
search.value = '';
names[1].click();
say('of one machine', visible().length > 0 && visible().every((row) => contains(row, 'm1')));
names[1].click();
say('of all machines', visible().length === rows.length - calls);

const result = document.createElement('pre');
result.id = 'measured';
result.textContent = lines.join('\n');
document.body.append(result);
