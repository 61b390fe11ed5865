import type { ReactNode } from "react";
import type { Loaded, Pages } from "../hooks";

/** What a query brought, or that it is loading, or why it failed and a way to try again. */
export function Ready<T>({ query, children }: { query: Loaded<T>; children(data: T): ReactNode }) {
  return (
    <>
      {query.data !== null && children(query.data)}
      {query.error !== null ? (
        <div className="failed" role="alert">
          <span className="problem">{query.error}</span>
          <button type="button" onClick={query.reload}>
            Try again
          </button>
        </div>
      ) : (
        query.data === null && (
          <p className="hint" role="status">
            Loading …
          </p>
        )
      )}
    </>
  );
}

export type Row = { key: string; cells: ReactNode[] };

/** A table; on a narrow screen each row is a card whose values have their column's name. */
export function Table({ caption, columns, rows }: { caption: string; columns: string[]; rows: Row[] }) {
  return (
    <table role="table">
      <caption>{caption}</caption>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column) => (
            <th key={column} role="columnheader" scope="col">
              {column}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map(({ key, cells }) => (
          <tr key={key} role="row">
            {cells.map((cell, index) => (
              <td key={columns[index]} role="cell" data-column={columns[index]}>
                {cell}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

type ListProps<T> = { pages: Pages<T>; caption: string; columns: string[]; empty: string; row(value: T): Row };

/** A paged list as a table, with a button for the next page. */
export function List<T>({ pages, caption, columns, empty, row }: ListProps<T>) {
  return (
    <Ready query={pages}>
      {(values) => (
        <>
          {values.length > 0 ? <Table caption={caption} columns={columns} rows={values.map(row)} /> : <p className="hint">{empty}</p>}
          {pages.hasMore && (
            <button type="button" className="more" disabled={pages.isLoading} onClick={pages.more}>
              Show more
            </button>
          )}
        </>
      )}
    </Ready>
  );
}
