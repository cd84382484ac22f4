// The cursor on the curve and the word that is spoken follow the clip; a click on either takes the clip there.
(() => {
  const media = () => document.querySelector(".pase-media");

  const show = (time) => {
    for (const plot of document.querySelectorAll(".pase-plot")) {
      const fraction = Math.min(1, time / Number(plot.dataset.length));
      const cursor = plot.querySelector(".pase-cursor");
      cursor.style.left = `${100 * fraction}%`;
      cursor.classList.toggle("late", fraction > 0.8);
      let latest = null;
      for (const [at, value] of JSON.parse(plot.dataset.points)) if (at <= time + 0.05) latest = value;
      cursor.firstElementChild.textContent = latest === null ? "" : (latest >= 0 ? "+" : "") + latest.toFixed(2);
    }
    for (const word of document.querySelectorAll(".pase-word[data-at]")) {
      const now = time > 0 && time >= Number(word.dataset.at) && time < Number(word.dataset.until);
      word.classList.toggle("now", now);
    }
  };

  const follow = () => {
    const clip = media();
    if (!clip) return;
    show(clip.currentTime);
    if (!clip.paused && !clip.ended) requestAnimationFrame(follow);
  };

  const go = (time) => {
    const clip = media();
    if (clip) clip.currentTime = time;
    show(time);
  };

  // media events do not bubble, but they can be captured
  for (const event of ["play", "seeked", "timeupdate", "pause"]) {
    document.addEventListener(event, (e) => e.target.classList?.contains("pase-media") && follow(), true);
  }
  document.addEventListener("click", (e) => {
    const word = e.target.closest?.("[data-at]");
    const plot = e.target.closest?.(".pase-plot");
    if (word) go(Number(word.dataset.at) + 0.02);  // players round a time, and not always up
    else if (plot) {
      const box = plot.getBoundingClientRect();
      go(((e.clientX - box.left) / box.width) * Number(plot.dataset.length));
    }
  });
})();

// The ticket stands in the address of the page, so that a reload brings the answer back.
window.pase = {
  remember: (ticket) => {
    const address = new URL(location.href);
    if (ticket) address.searchParams.set("ticket", ticket);
    else address.searchParams.delete("ticket");
    history.replaceState(history.state, "", address);
    return [];
  },
  recall: () => new URL(location.href).searchParams.get("ticket") || "",
};
