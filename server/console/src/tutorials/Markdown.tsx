import { markdown } from "@graphiql/react";

/** Markdown of a tutorial. HTML in it is shown as text, pictures as their description, and of links those to the web work. */
export function Markdown({ text }: { text: string }) {
  return <div className="markdown" dangerouslySetInnerHTML={{ __html: rendered(text) }} />;
}

// On the tokens, not as rules of the renderer: GraphiQL renders the descriptions of the schema with the same one.
function rendered(text: string): string {
  const blocks = markdown.parse(text, {});
  for (const block of blocks) {
    block.children = (block.children ?? []).map((token) => {
      if (token.type === "image") {
        token.type = "text";
      } else if (token.type === "link_open") {
        if (/^https?:\/\//i.test(String(token.attrGet("href")))) {
          token.attrSet("target", "_blank");
          token.attrSet("rel", "noopener noreferrer");
        } else {
          token.attrs = null;
        }
      }
      return token;
    });
  }
  return markdown.renderer.render(blocks, markdown.options, {});
}
