window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // it would ask another host
  defaultModelsExpandDepth: 0,
  presets: [SwaggerUIBundle.presets.apis],
});
