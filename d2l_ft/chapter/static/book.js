// The address of the page names the tab that is shown, so that it can be shared as a link.
document.addEventListener('change', (event) => {
  const label = event.target.matches('.sd-tab-set > input')
    && document.querySelector(`label[for="${event.target.id}"]`);
  if (!label || !label.dataset.syncId) return;
  const address = new URL(location);
  address.searchParams.set(label.dataset.syncGroup, label.dataset.syncId);
  history.replaceState(null, '', address);
});
