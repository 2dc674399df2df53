const rows = [...document.querySelectorAll('.row')];
const boxes = [...document.querySelectorAll('nav [type=checkbox]')];
const search = document.querySelector('nav [type=search]');
const names = [...document.querySelectorAll('header button')];
const contains = (row, name) => row.classList.contains(name);

/** Shows the events of the chosen kinds, machine and text. */
function update() {
  const hidden = boxes.filter((box) => !box.checked).map((box) => box.name);
  const only = names.find((name) => contains(name, 'only'));
  const text = search.value.toLowerCase();
  let count = 0;
  for (const row of rows) {
    row.hidden = hidden.some((kind) => contains(row, kind)) ||
      (only && !contains(row, only.value)) || !row.textContent.toLowerCase().includes(text);
    count += !row.hidden;
  }
  document.querySelector('nav output').textContent = `${count} of ${rows.length} events`;
}

boxes.forEach((box) => box.addEventListener('change', update));
search.addEventListener('input', update);
for (const name of names) {
  name.addEventListener('click', () => {
    const was = contains(name, 'only');
    names.forEach((other) => other.classList.remove('only'));
    name.classList.toggle('only', !was);
    update();
  });
}
update();
