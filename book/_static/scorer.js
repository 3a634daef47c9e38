/* How hits of the search are ranked: a page whose title begins with the words comes first, then one whose title has
   them.  From a disk no page can be fetched for an excerpt, so its first sentences stand there. */
var Scorer = {
  score: (hit) => {
    const [page, title, anchor, told, score] = hit;
    if (location.protocol === "file:" && !told && typeof kdnbExcerpts !== "undefined") hit[3] = kdnbExcerpts[page];
    const asked = (new URLSearchParams(location.search).get("q") || "").trim().toLowerCase();
    const named = title.toLowerCase();
    const ends = /^[^a-z0-9]|^$/;
    if (anchor || !asked) return score;
    if (named.startsWith(asked) && ends.test(named.slice(asked.length))) return score + 100;
    return named.includes(asked) ? score + 30 : score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
