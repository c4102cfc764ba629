// Lets a reader choose the threshold of a report, and shows what each one does.
"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("thresholds").textContent);
  const slider = find("threshold-slider");
  const last = data.thresholds.length - 1;
  const markers = [...document.querySelectorAll(".marker")].map((mark) => ({
    mark, places: JSON.parse(mark.dataset.places),
  }));

  // Three digits that count, as the rest of the report has them.
  const percent = (rate) => {
    if (rate === 0) return "0%";
    const digits = Math.max(0, 2 - Math.floor(Math.log10(100 * rate) + 1e-9));
    return (100 * rate).toFixed(digits) + "%";
  };

  const show = (id, value, text) => {
    find(id).value = value;
    find(id).textContent = text;
  };

  const note = (rate, pairs, interval, wrong) => {
    const errors = Math.round(rate * pairs);
    const parts = [`${errors.toLocaleString("en")} of ${pairs.toLocaleString("en")} pairs`];
    if (interval[0] !== null) {
      parts.push(`95\u00a0%: ${percent(interval[0])} to ${percent(interval[1])}`);
    }
    if (errors < 30) parts.push(`fewer than 30 errors: ${errors} ${wrong}`);
    return parts.join("; ");
  };

  // The normalised detection cost, as minDCF is the least of.
  const costs = () => {
    const [share, miss, alarm] = ["p-target", "c-miss", "c-fa"].map((id) => Number(find(id).value));
    if (!(share > 0 && share < 1 && miss > 0 && alarm > 0)) return null;
    const [ofMiss, ofAlarm] = [miss * share, alarm * (1 - share)];
    const unit = Math.min(ofMiss, ofAlarm);
    return data.fmr.map((fmr, at) => (ofMiss * data.fnmr[at] + ofAlarm * fmr) / unit);
  };

  const least = (values) => values.indexOf(Math.min(...values));

  const update = () => {
    const at = Number(slider.value);
    const threshold = data.thresholds[at];
    show("threshold", threshold, threshold.toFixed(3));
    show("fmr", data.fmr[at], percent(data.fmr[at]));
    show("fnmr", data.fnmr[at], percent(data.fnmr[at]));
    find("fmr-note").textContent =
      note(data.fmr[at], data.different, data.fmr_intervals[at], "false matches");
    find("fnmr-note").textContent =
      note(data.fnmr[at], data.same, data.fnmr_intervals[at], "false non-matches");
    slider.setAttribute("aria-valuetext",
      `${threshold.toFixed(3)}: FMR ${find("fmr").textContent}, FNMR ${find("fnmr").textContent}`);
    const values = costs();
    find("least").disabled = values === null;
    if (values === null) {
      show("cost", "", "-");
      find("cost-note").textContent = "needs a share between 0 and 1, and costs above 0";
    } else {
      const best = least(values);
      show("cost", values[at], values[at].toFixed(3));
      find("cost-note").textContent =
        `least: ${values[best].toFixed(3)}, at ${data.thresholds[best].toFixed(3)}`;
    }
    for (const { mark, places } of markers) {
      mark.hidden = false;
      mark.style.left = `${100 * places[at][0]}%`;
      mark.style.top = `${100 * places[at][1]}%`;
    }
  };

  const go = (at) => {
    slider.value = at;
    update();
  };

  slider.max = last;
  slider.addEventListener("input", update);
  for (const id of ["p-target", "c-miss", "c-fa"]) find(id).addEventListener("input", update);
  find("least").addEventListener("click", () => go(least(costs())));
  find("own").addEventListener("click", () => go(data.start));
  go(data.start);
})();
