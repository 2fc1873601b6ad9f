// The document's own address says where the API is, also behind a proxy that adds a prefix.
const address = new URL("openapi.json", location.href);
const spec = await (await fetch(address)).json();
spec.servers = [{ url: new URL(".", address).pathname.replace(/\/$/, "") || "/" }];
window.ui = SwaggerUIBundle({
  spec,
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // it would ask another host
  defaultModelsExpandDepth: 0,
  presets: [SwaggerUIBundle.presets.apis],
});
