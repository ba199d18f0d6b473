// A button on each block of commands or code that copies its text.
document.addEventListener('DOMContentLoaded', () => {
  for (const block of document.querySelectorAll('[class*=highlight-]:not(.highlight-text, .highlight-none) > div.highlight')) {
    const button = document.createElement('button');
    button.className = 'copy';
    button.type = 'button';
    button.textContent = 'Copy';
    button.setAttribute('aria-label', 'Copy this code');
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(block.querySelector('pre').innerText.trimEnd());
        button.textContent = 'Copied';
      } catch {
        button.textContent = 'Not allowed';  // by the browser, for pages that come over plain http
      }
      setTimeout(() => { button.textContent = 'Copy'; }, 1500);
    });
    block.append(button);
  }
});
