// Jobs in groups of equal values: mean and spread, as over seeds.
import { get } from "../api.js";
import { number, value } from "../format.js";
import { html } from "../html.js";
import { useLoaded } from "../load.js";
import { Failure, Table } from "../parts/pieces.js";
import { ours, withQuery } from "../query.js";

export function Groups({ by, wanted }) {
  const query = { by, columns: wanted.columns, name: wanted.name, status: wanted.status, filter: wanted.filter };
  const found = useLoaded((signal) => get("/v1/jobs/groups", query, { signal }), [JSON.stringify(query)]);
  const columns = [
    ...by.map((name) => ({ name, of: (group) => value(group.group[name]) })),
    { name: "jobs", number: true, of: (group) => group.jobs },
    ...wanted.columns.map((name) => ({ name, number: true, of: (group) => spread(group.values[name]) })),
  ];
  return html`<section><h2>Groups by ${by.join(", ")}</h2>
    <${Failure} error=${found.error} />
    <${Table} caption="Groups" columns=${columns} rows=${found.data?.data} />
    <p><a class="button" href=${withQuery(ours("/v1/jobs/groups"), { ...query, format: "csv" })} download="groups.csv">CSV</a></p>
  </section>`;
}

/** Mean ± standard deviation, and from where to where. */
function spread({ count, mean, std, min, max }) {
  if (!count) return "–";
  if (count === 1) return number(mean);
  return `${number(mean)} ± ${number(std, 2)} (${number(min)} … ${number(max)})`;
}
