export default {
  compilerOptions: {
    runes: true,
    // The same wherever the page is built.
    cssHash: ({ hash, css }) => `svelte-${hash(css)}`,
  },
};
