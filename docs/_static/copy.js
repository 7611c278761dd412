// A button on each piece of code that copies it, of an example only what follows its prompts.
for (const block of document.querySelectorAll("div.highlight")) {
  if (block.closest(".cell_output") || !navigator.clipboard) continue;
  const button = document.createElement("button");
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const code = block.querySelector("pre").textContent;
    const typed = code.match(/^(>>>|\.\.\.)( .*)?$/gm)?.map((line) => line.slice(4)).join("\n");
    await navigator.clipboard.writeText(typed ?? code);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  block.prepend(button);
}
