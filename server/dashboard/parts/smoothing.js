/** The mean of the last `width` values that there are. */
export function smooth(values, width) {
  const kept = [];
  let sum = 0;
  return values.map((value) => {
    if (value === null) return null;
    kept.push(value);
    sum += value;
    if (kept.length > width) sum -= kept.shift();
    return sum / kept.length;
  });
}
