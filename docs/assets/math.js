// Formulas are rendered in the browser by the copy of KaTeX beside this file; nothing is fetched from elsewhere.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".arithmatex").forEach((element) => {
    const display = element.tagName === "DIV";
    const source = element.textContent.trim().replace(/^\\[([]/, "").replace(/\\[)\]]$/, "");
    katex.render(source, element, { displayMode: display, throwOnError: false });
  });
});
