/** A Worker that does nothing: what `edge.py` compares with. */
export default { fetch: (): Response => Response.json({}) };
