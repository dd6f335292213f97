"use strict";
(() => {
  // Swagger UI's own dark theme is a class on the root element.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const applyTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", applyTheme);
  applyTheme();

  const anchor = location.hash.slice(1); // Swagger UI replaces it
  SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    tryItOutEnabled: true,
    onComplete: () => {
      // The browser looked for the anchor before Swagger UI rendered it.
      const target = document.getElementById(anchor);
      if (!target) return;
      target.open = true; // of <details>
      target.scrollIntoView();
    },
  });
})();
